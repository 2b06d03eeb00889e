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
  constraint times_lie_between_2000_and_9998 check (
    least(started_at, finished_at) >= '2000-01-01 00:00:00+00'
    and greatest(started_at, finished_at) < '9999-01-01 00:00:00+00'
  ),
  constraint format_is_known check (format in ('custom', 'plain', 'directory')),
  constraint verified_is_known check (verified in ('list', 'restore', 'off'))
);

create index backups_by_time on pgflow.backups (finished_at);

-- Whoever has its row locked takes a backup; the lock goes with the connection.
create table pgflow.backup_lock (
  only_row boolean primary key default true,
  constraint there_is_one_row check (only_row)
);

insert into pgflow.backup_lock (only_row)
values (true);
