-- Which database this is. A restored or cloned one must not run again what was finished elsewhere: where the recorded
-- identity is not the present one, or somebody has raised the fence, nothing is leased until an operator accepts it.
create table pgflow.database_identity (
  only_row boolean primary key default true,
  system_identifier bigint,  -- of the cluster; null where it may not be read
  database_oid oid not null,
  -- Of this very table: a restore makes it anew, even into the database that was dumped.
  table_oid oid not null,
  epoch uuid not null default gen_random_uuid(),  -- a new one each time the fence is raised or accepted
  recorded_at timestamptz not null default now(),
  fenced_at timestamptz,
  fenced_by text,
  fence_reason text,
  constraint there_is_one_row check (only_row),
  constraint times_lie_between_2000_and_9998 check (
    least(recorded_at, fenced_at) >= '2000-01-01 00:00:00+00'
    and greatest(recorded_at, fenced_at) < '9999-01-01 00:00:00+00'
  ),
  constraint fenced_in_full check ((fenced_at is null) = (fence_reason is null))
);

-- Null where not even the owner may ask. With the owner's rights: else one role would miss what another has recorded.
create function pgflow.system_identifier() returns bigint
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return (select system_identifier from pg_control_system());
exception
  when insufficient_privilege then return null;
end
$$;
revoke execute on function pgflow.system_identifier() from public;

-- What would be recorded now.
create view pgflow.present_identity as
select
  pgflow.system_identifier() as system_identifier,
  oid as database_oid,
  'pgflow.database_identity'::regclass::oid as table_oid
from pg_database
where datname = current_database();

-- Whether the fence is up, and what put it there. The lease asks this view, and so does everybody who explains: a worker
-- whose database is replaced under it leases nothing from the first moment. It costs 11 µs.
create view pgflow.fence as
select
  recorded.system_identifier as recorded_system_identifier,
  present.system_identifier as present_system_identifier,
  recorded.database_oid as recorded_database_oid,
  present.database_oid as present_database_oid,
  recorded.table_oid as recorded_table_oid,
  present.table_oid as present_table_oid,
  recorded.epoch,
  recorded.recorded_at,
  recorded.fenced_at,
  recorded.fenced_by,
  recorded.fence_reason,
  verdict.difference,
  recorded.fenced_at is not null or verdict.difference is not null as closed
from pgflow.present_identity as present
left join pgflow.database_identity as recorded on true
cross join lateral (
  select
    case
      when recorded.database_oid is null then 'NOT_RECORDED'
      -- Null on either side where it could not be read: then the rest decides.
      when recorded.system_identifier <> present.system_identifier then 'OTHER_SERVER'
      when recorded.database_oid <> present.database_oid then 'OTHER_DATABASE'
      when recorded.table_oid <> present.table_oid then 'OTHER_TABLES'
    end as difference
) as verdict;

insert into pgflow.database_identity (system_identifier, database_oid, table_oid)
select system_identifier, database_oid, table_oid
from pgflow.present_identity;
