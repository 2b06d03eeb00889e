-- The session that changes the schema: it has locked the row, and waits for no other session that has.
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
  and holder.relation = to_regclass('pgflow.migrations')
  and holder.mode = 'RowShareLock'
  and holder.granted
  and holder.pid is distinct from pg_backend_pid()
  and not exists (
    select from pg_locks as waiting
    where waiting.pid = holder.pid
      and waiting.locktype in ('transactionid', 'tuple')
      and not waiting.granted
  )
order by activity.xact_start
limit 1
