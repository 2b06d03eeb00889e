-- The facts of a server and a database that decide whether a schema can be made there.
select
  current_setting('server_version_num')::integer as version_number,
  current_setting('server_version') as version,
  current_database()::text as database,
  pg_encoding_to_char(encoding)::text as encoding,
  pg_is_in_recovery() as in_recovery,
  to_regnamespace('pgflow') is not null as has_schema,
  to_regclass('pgflow.migrations') is not null as has_migrations
from pg_database
where datname = current_database()
