-- The records of `maintain` and `backup`, and the locks that allow only one of each at a time.

-- A maintenance pass holds this table's lock. A table and not a row: locking a row takes a transaction id, and one that
-- is held for minutes keeps vacuum from removing anything younger. Grants protect it as they protect a row.
create table pgflow.maintenance_lock (
  only_row boolean primary key default true,
  constraint there_is_no_row check (not only_row)
);

-- Dumps of before a_restore_marker have an empty COPY into one that nothing else inserts into, ahead of `pending`.
create trigger a_dump_raises_the_fence after insert on pgflow.maintenance_lock
for each statement execute function pgflow.trip_fence();
alter table pgflow.maintenance_lock enable always trigger a_dump_raises_the_fence;

create table pgflow.maintenance_tasks (
  task text primary key,
  last_started_at timestamptz not null default now(),
  last_success_at timestamptz,
  last_rows bigint not null default 0,
  rows_total bigint not null default 0,
  last_seconds double precision,
  result text,  -- null: it runs, or was killed
  detail text,
  runner text not null,  -- user, host and process that ran it last
  constraint times_lie_between_2000_and_9998 check (
    least(last_started_at, last_success_at) >= '2000-01-01 00:00:00+00'
    and greatest(last_started_at, last_success_at) < '9999-01-01 00:00:00+00'
  )
);

-- Days with so many unfinished jobs that they stay where they are: when they were looked through.
create table pgflow.archive_sweeps (
  day date primary key,
  swept_at timestamptz not null default now(),
  constraint swept_at_lies_between_2000_and_9998 check (
    swept_at >= '2000-01-01 00:00:00+00' and swept_at < '9999-01-01 00:00:00+00'
  )
);

-- Backups that were taken: what doctor and the metrics ask for.
create table pgflow.backups (
  id bigint generated always as identity primary key,
  started_at timestamptz not null,
  finished_at timestamptz not null default now(),
  bytes bigint not null,
  schema_version integer,
  file text not null,  -- '-': it went to stdout
  sha256 text not null,
  format text not null,
  verified text not null,  -- how: 'list', 'restore' or 'off'
  constraint format_is_known check (format in ('custom', 'plain', 'directory')),
  constraint verified_is_known check (verified in ('list', 'restore', 'off')),
  constraint times_lie_between_2000_and_9998 check (
    least(started_at, finished_at) >= '2000-01-01 00:00:00+00'
    and greatest(started_at, finished_at) < '9999-01-01 00:00:00+00'
  )
);

create index backups_by_time on pgflow.backups (finished_at);

-- The session that has its row locked takes a backup; the lock goes with the connection.
create table pgflow.backup_lock (
  only_row boolean primary key default true,
  constraint there_is_one_row check (only_row)
);

insert into pgflow.backup_lock (only_row)
values (true);
