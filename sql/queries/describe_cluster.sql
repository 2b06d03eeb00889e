-- The server and the database as a whole: for the head of `top`, and for Prometheus.
select
  now() as now,
  current_database()::text as database,
  current_setting('server_version') as server_version,
  (select max(version) from pgflow.migrations) as schema_version,
  (select count(*) from pg_stat_activity where backend_type = 'client backend')::integer as connections,
  current_setting('max_connections')::integer as max_connections,
  (
    select date_part('epoch', now() - min(xact_start))
    from pg_stat_activity
    where backend_xmin is not null
      and pid <> pg_backend_pid()
  ) as oldest_xmin_age_seconds,
  (select max(last_success_at) from pgflow.maintenance_tasks) as maintained_at,
  latest.finished_at as backed_up_at,
  latest.bytes as backup_bytes,
  (select coalesce(bool_or(fenced_at is not null), true) from pgflow.database_identity) as fenced
from (values (1)) as one (row)
left join lateral (
  select finished_at, bytes
  from pgflow.backups
  order by finished_at desc
  limit 1
) as latest on true
