-- Which database this is. A restored or cloned one must not run again what was finished elsewhere: where the recorded
-- identity is not the present one, or somebody has raised the fence, nothing is leased until an operator accepts it.
create table pgflow.database_identity (
  only_row boolean primary key default true,
  system_identifier bigint,  -- of the cluster; null where it may not be read
  database_oid oid not null,
  epoch uuid not null default gen_random_uuid(),  -- a new one each time the fence is raised or accepted
  recorded_at timestamptz not null default now(),
  fenced_at timestamptz,
  fenced_by text,
  fence_reason text,
  constraint there_is_one_row check (only_row),
  constraint fenced_in_full check ((fenced_at is null) = (fence_reason is null))
);

-- Null where this role may not ask.
create function pgflow.system_identifier() returns bigint
language plpgsql stable
as $$
begin
  return (select system_identifier from pg_control_system());
exception
  when insufficient_privilege then return null;
end
$$;
revoke execute on function pgflow.system_identifier() from public;

insert into pgflow.database_identity (system_identifier, database_oid)
select pgflow.system_identifier(), oid
from pg_database
where datname = current_database();
