-- The oldest transactions that have written jobs, or hold their table, in words; without what this role may not see.
-- First the one that holds the lock of transactions that add many queues, however young it is: see open_places in
-- 0002_enqueue.
select
  concat(
    'pid ', holder.pid,
    ' of role "' || activity.usename || '"',
    ', application "' || nullif(activity.application_name, '') || '"',
    ', ' || activity.state,
    ', open for ' || floor(date_part('epoch', clock_timestamp() - activity.xact_start)) || ' s'
  ) as words
from (
  select pid, bool_or(relation = 'pgflow.gate_limits'::regclass) as adds_many
  from pg_locks
  where locktype = 'relation'
    and (
      relation = 'pgflow.jobs'::regclass
      and mode not in ('AccessShareLock', 'RowShareLock', 'ShareUpdateExclusiveLock')
      or relation = 'pgflow.gate_limits'::regclass and mode = 'ShareUpdateExclusiveLock'
    )
    and database = (select oid from pg_database where datname = current_database())
    and granted
    and pid <> pg_backend_pid()
  group by pid
) as holder
join pg_stat_activity as activity using (pid)
order by holder.adds_many desc, activity.xact_start
limit 3
