-- What the current role may do with the schema, its tables and views but for partitions, and its functions.
select
  relname::text as name,
  case relkind when 'v' then 'view' else 'table' end as kind,
  has_table_privilege(oid, 'select') as may_read,
  has_table_privilege(oid, 'insert') as may_insert,
  has_table_privilege(oid, 'update') as may_update,
  has_table_privilege(oid, 'delete') as may_delete,
  pg_has_role(relowner, 'usage') as owns
from pg_class
where relnamespace = 'pgflow'::regnamespace
  and relkind in ('r', 'p', 'v')
  and not relispartition
union all
select
  proname || '(' || pg_get_function_identity_arguments(oid) || ')',
  'function',
  has_function_privilege(oid, 'execute'), false, false, false,
  pg_has_role(proowner, 'usage')
from pg_proc
where pronamespace = 'pgflow'::regnamespace
union all
select nspname::text, 'schema', has_schema_privilege(oid, 'usage'), false, false, false, pg_has_role(nspowner, 'usage')
from pg_namespace
where nspname = 'pgflow'
order by kind, name
