-- Connections in use, and every limit they may run into.
select
  count(*) as used,
  count(*) filter (where starts_with(state, 'idle in transaction')) as idle_in_transaction,
  current_setting('max_connections')::integer as allowed,
  current_setting('superuser_reserved_connections')::integer
    -- From PostgreSQL 16 on.
    + coalesce(current_setting('reserved_connections', true), '0')::integer as reserved,
  count(*) filter (where usename = current_user) as role_used,
  (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user) as role_limit,
  count(*) filter (where datname = current_database()) as database_used,
  (select nullif(datconnlimit, -1) from pg_database where datname = current_database()) as database_limit
from pg_stat_activity
where backend_type = 'client backend'
