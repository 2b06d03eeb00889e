-- Which database this is. A restored or cloned one must not run again what was finished elsewhere: if the recorded
-- identity differs from the present one, or an operator has raised the fence, nothing is leased until an operator
-- accepts the database.
create table pgflow.database_identity (
  only_row boolean primary key default true,
  system_identifier bigint,  -- of the cluster; null where it may not be read
  database_oid oid not null,
  -- The oid of this table: a restore makes a new one, even in the database that was dumped.
  table_oid oid not null,
  epoch uuid not null default gen_random_uuid(),  -- a new one each time the fence is raised or accepted
  recorded_at timestamptz not null default now(),
  fenced_at timestamptz,
  fenced_by text,
  fence_reason text,
  -- The transaction that began a load not accepted yet, and how far jobs had been pruned by then: a row of `jobs` that
  -- is younger, and of an id up to there, is one that had been pruned.
  load_began xid8,
  load_pruned_until uuid,
  constraint there_is_one_row check (only_row),
  constraint fenced_in_full check ((fenced_at is null) = (fence_reason is null)),
  constraint times_lie_between_2000_and_9998 check (
    least(recorded_at, fenced_at) >= '2000-01-01 00:00:00+00'
    and greatest(recorded_at, fenced_at) < '9999-01-01 00:00:00+00'
  )
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

-- The identity that would be recorded now.
create view pgflow.present_identity as
select
  pgflow.system_identifier() as system_identifier,
  oid as database_oid,
  'pgflow.database_identity'::regclass::oid as table_oid
from pg_database
where datname = current_database();

-- Whether the fence is up, and why. Leases and explanations read this view, so a worker whose database is replaced
-- while it runs leases nothing from the first moment. It costs 11 µs.
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

-- The trip-wire. `psql < dump` goes on after each error: what has a key is refused, what has left its table since the
-- dump comes back, and jobs that have finished wait again. pg_dump orders tables by name, so this one is filled before
-- any other; without a key its COPY succeeds, and the trigger stays. A restore into an empty schema makes triggers last.
-- More than one row: a dump was loaded over this schema, and `fence accept` has not looked after it yet.
create table pgflow.a_restore_marker (
  note text not null default 'a dump was loaded after this row'
);

insert into pgflow.a_restore_marker (note)
values ('loading a dump over this schema raises the fence');

-- With the owner's rights: who loads a dump need not be able to raise the fence.
create function pgflow.trip_fence() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  stack text;
begin
  if tg_table_name <> 'a_restore_marker' then
    get diagnostics stack = pg_context;
    -- What a function of ours inserts is no dump, however its caller's statement reads: a producer must not raise the
    -- fence. The first line is this function's, any other a caller's.
    if strpos(stack, e'\n') = 0 then
      insert into pgflow.a_restore_marker default values;
    end if;
    return null;
  end if;
  update pgflow.database_identity
  set load_began = coalesce(load_began, pg_current_xact_id()),
      load_pruned_until = coalesce(
        load_pruned_until,
        (select history_marks.pruned_until from pgflow.history_marks)
      ),
      epoch = gen_random_uuid(),
      fenced_at = clock_timestamp(),
      fenced_by = session_user,
      fence_reason = 'a dump was loaded over this database while its tables were there';
  return null;
end
$$;
revoke execute on function pgflow.trip_fence() from public;

create trigger a_dump_raises_the_fence after insert on pgflow.a_restore_marker
for each statement execute function pgflow.trip_fence();
-- Also where session_replication_role is replica, which loaders of data set.
alter table pgflow.a_restore_marker enable always trigger a_dump_raises_the_fence;
