-- Transactions that are open in this database, prepared ones too: as unique names, and whether they are prepared.
--
-- From the locks that each holds on itself, because these every role may see. Without ours, without those that hold or
-- await the lock of maintain, and without what the server runs for itself: none of them enqueues.
select locks.virtualxid as name, false as prepared
from pg_locks as locks
join pg_stat_activity as activity using (pid)
where locks.locktype = 'virtualxid'
  and locks.mode = 'ExclusiveLock'
  and locks.pid <> pg_backend_pid()
  and activity.datname = current_database()
  and activity.usesysid is not null
  and not exists (
    select from pg_locks as maintaining
    where maintaining.pid = locks.pid
      and maintaining.locktype = 'relation'
      and maintaining.relation = 'pgflow.maintenance_lock'::regclass
      and maintaining.mode = 'ExclusiveLock'
  )
union all
select gid, true
from pg_prepared_xacts
where database = current_database()
