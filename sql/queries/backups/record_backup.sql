-- Remember a backup that was taken and checked.
insert into pgflow.backups (started_at, finished_at, bytes, schema_version, file, sha256, format, verified)
values (
  %(started_at)s::timestamptz, clock_timestamp(), %(bytes)s::bigint, %(schema_version)s::integer, %(file)s::text,
  %(sha256)s::text, %(format)s::text, %(verified)s::text
)
returning id
