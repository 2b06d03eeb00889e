-- Functions, operators and relations with the name of one of the server's own, whose parameters have only the server's
-- types: a session without a pinned search_path may use them instead. Without those of superusers and extensions.
with
places as materialized (
  select oid
  from pg_namespace
  where nspname <> 'information_schema'
    -- Those of the server, and the temporary ones, which are never searched for functions.
    and not starts_with(nspname, 'pg_')
),
ours as materialized (
  select oid
  from pg_type
  where typnamespace = 'pg_catalog'::regnamespace
),
named as (
  select 'pg_proc'::regclass as class, oid, proowner as owner
  from pg_proc
  where pronamespace in (select oid from places)
    and proname in (select proname from pg_proc where pronamespace = 'pg_catalog'::regnamespace)
    and proargtypes::oid[] <@ array(select oid from ours)
  union all
  select 'pg_operator'::regclass, oid, oprowner
  from pg_operator
  where oprnamespace in (select oid from places)
    and oprname in (select oprname from pg_operator where oprnamespace = 'pg_catalog'::regnamespace)
    and array[oprleft, oprright] <@ (array(select oid from ours) || 0::oid)
  union all
  select 'pg_class'::regclass, oid, relowner
  from pg_class
  where relnamespace in (select oid from places)
    and relkind in ('r', 'p', 'v', 'm', 'f')
    and relname in (select relname from pg_class where relnamespace = 'pg_catalog'::regnamespace)
  union all
  select 'pg_type'::regclass, oid, typowner
  from pg_type
  where typnamespace in (select oid from places)
    -- A relation's row type goes with it, and an array with its element.
    and typrelid = 0
    and typelem = 0
    and typname in (select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace)
)
select object.type as kind, object.identity as name, owner.rolname::text as owner
from named
join pg_roles as owner on owner.oid = named.owner
cross join lateral pg_identify_object(named.class, named.oid, 0) as object
where not owner.rolsuper
  and not exists (
    select
    from pg_depend
    where classid = named.class
      and objid = named.oid
      and deptype = 'e'
  )
order by kind, name
limit 100
