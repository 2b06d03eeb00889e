-- The session that runs `maintain` now.
select
  holder.pid,
  coalesce(activity.application_name, '') as application_name,
  coalesce(activity.usename::text, '') as role,
  coalesce(to_char(activity.xact_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), '') as since,
  coalesce(activity.state, '') as state
from pg_locks as holder
left join pg_stat_activity as activity using (pid)
where holder.locktype = 'relation'
  and holder.database = (select oid from pg_database where datname = current_database())
  and holder.relation = to_regclass('pgflow.maintenance_lock')
  and holder.mode = 'ExclusiveLock'
  and holder.granted
limit 1
