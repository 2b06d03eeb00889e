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

insert into pgflow.database_identity (system_identifier, database_oid, table_oid)
select system_identifier, database_oid, table_oid
from pgflow.present_identity;
