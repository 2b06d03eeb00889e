-- The oldest transactions that hold a lock of a table of schema pgflow that keeps others from writing or reading it, in
-- words; without the words that this role may not see.
select
  holder.pid,
  concat(
    'pid ', holder.pid,
    ' of role "' || activity.usename || '"',
    ', application "' || nullif(activity.application_name, '') || '"',
    ', ' || activity.state,
    ', open for ' || floor(date_part('epoch', clock_timestamp() - activity.xact_start)) || ' s'
  ) as words,
  holder.tables
from (
  select entry.pid, string_agg(distinct class.relname::text, ', ' order by class.relname::text) as tables
  from pg_locks as entry
  join pg_class as class on class.oid = entry.relation
  where entry.locktype = 'relation'
    and entry.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    and entry.database = (select oid from pg_database where datname = current_database())
    and entry.granted
    and entry.pid <> pg_backend_pid()
    and class.relnamespace = (select oid from pg_namespace where nspname = 'pgflow')
    and class.relkind in ('r', 'p')
  group by entry.pid
) as holder
join pg_stat_activity as activity using (pid)
order by activity.xact_start
limit 3
