-- The facts that a backup needs before it starts pg_dump, whatever version the schema has.
select
  current_setting('server_version') as server_version,
  current_setting('server_version_num')::integer as version_number,
  current_database()::text as database,
  pg_is_in_recovery() as in_recovery,
  to_regclass('pgflow.migrations') is not null as has_migrations,
  to_regclass('pgflow.database_identity') is not null as has_identity,
  to_regclass('pgflow.backups') is not null as has_backups,
  clock_timestamp() as now
