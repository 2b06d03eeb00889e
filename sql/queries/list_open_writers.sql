-- The oldest transactions that have written jobs, or hold their table, in words; without what this role may not see.
select
  concat(
    'pid ', holder.pid,
    ' of role "' || activity.usename || '"',
    ', application "' || nullif(activity.application_name, '') || '"',
    ', ' || activity.state,
    ', open for ' || floor(date_part('epoch', clock_timestamp() - activity.xact_start)) || ' s'
  ) as words
from (
  select distinct pid
  from pg_locks
  where locktype = 'relation'
    and relation = 'pgflow.jobs'::regclass
    and database = (select oid from pg_database where datname = current_database())
    and mode not in ('AccessShareLock', 'RowShareLock', 'ShareUpdateExclusiveLock')
    and granted
    and pid <> pg_backend_pid()
) as holder
join pg_stat_activity as activity using (pid)
order by activity.xact_start
limit 3
