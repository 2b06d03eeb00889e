-- What keeps a job from running again: a trip-wire for dumps that are loaded over a schema in use, and a memory of ids
-- whose jobs have been archived or pruned.

-- The trip-wire. `psql < dump` goes on after each error: what has a key is refused, what has left its table since the
-- dump comes back, and jobs that have finished wait again. pg_dump orders tables by name, so this one is filled before
-- any other; without a key its COPY succeeds, and the trigger stays. A restore into an empty schema makes triggers last.
-- More than one row: a dump was loaded over this schema, and `fence accept` has not looked after it yet.
create table pgflow.a_restore_marker (
  note text not null default 'a dump was loaded after this row'
);

insert into pgflow.a_restore_marker (note)
values ('loading a dump over this schema raises the fence');

-- The transaction that began a load not accepted yet, and how far jobs had been pruned by then: a row of `jobs` that is
-- younger, and of an id up to there, is one that had been pruned.
alter table pgflow.database_identity add column load_began xid8, add column load_pruned_until uuid;

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

-- Dumps of before this table existed have an empty COPY into one that nothing else inserts into, ahead of `pending`.
create trigger a_dump_raises_the_fence after insert on pgflow.maintenance_lock
for each statement execute function pgflow.trip_fence();

-- Dumps of versions 1 to 9 have neither. They fill two tables ahead of `jobs` and `pending` that we insert into, too: so
-- the statement must be pg_dump's. It names the table itself, in capitals; an empty COPY fires as well.
create trigger a_dump_raises_the_fence after insert on pgflow.enqueue_counters
for each statement
when (left(current_query(), 1000) ~ '^(\s|--[^\n]*\n)*(COPY|INSERT INTO) pgflow\.enqueue_counters\M')
execute function pgflow.trip_fence();
create trigger a_dump_raises_the_fence after insert on pgflow.error_codes
for each statement
when (left(current_query(), 1000) ~ '^(\s|--[^\n]*\n)*(COPY|INSERT INTO) pgflow\.error_codes\M')
execute function pgflow.trip_fence();

-- Also where session_replication_role is replica, which loaders of data set.
alter table pgflow.a_restore_marker enable always trigger a_dump_raises_the_fence;
alter table pgflow.maintenance_lock enable always trigger a_dump_raises_the_fence;
alter table pgflow.enqueue_counters enable always trigger a_dump_raises_the_fence;
alter table pgflow.error_codes enable always trigger a_dump_raises_the_fence;

-- Up to which id jobs have been archived and pruned. No job with a greater id is in the archive, and none has been
-- pruned: enqueue looks no further for ids of today. Written by `maintain`, with what it moves or removes.
create table pgflow.history_marks (
  only_row boolean primary key default true,
  archived_until uuid not null default '00000000-0000-0000-0000-000000000000',
  pruned_until uuid not null default '00000000-0000-0000-0000-000000000000',
  constraint there_is_one_row check (only_row)
);

insert into pgflow.history_marks (archived_until)
select coalesce(
  (select id from pgflow.jobs_archive order by id desc limit 1), '00000000-0000-0000-0000-000000000000'
);

create function pgflow.pruned_problem(pruned_until uuid) returns text
language sql stable parallel safe
return format(
  'job_id is of a time before %s, whose jobs have been pruned, so it may have run already; use a new id',
  to_char(
    -- Its first 48 bits are milliseconds.
    to_timestamp(('x' || left(replace(pruned_until::text, '-', ''), 12))::bit(48)::bigint / 1000.0) at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS"Z"'
  )
);
revoke execute on function pgflow.pruned_problem(uuid) from public;
