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
  -- The task that has waited for longest: one that fails must not hide behind the others.
  (select min(last_success_at) from pgflow.maintenance_tasks) as maintained_at,
  last_backup.finished_at as backed_up_at,
  last_backup.bytes as backup_bytes,
  (select closed from pgflow.fence) as fenced
from (select) as nothing
left join lateral (
  select finished_at, bytes
  from pgflow.backups
  order by finished_at desc
  limit 1
) as last_backup on true
