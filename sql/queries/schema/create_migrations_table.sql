-- Make the table of applied versions.
create table if not exists pgflow.migrations (
  version integer not null primary key,
  name text not null,
  checksum text not null,  -- SHA-256 of the file's text
  applied_at timestamptz not null default now(),
  applied_by text not null default session_user,
  constraint version_is_not_negative check (version >= 0)
)
