-- The holders of the xmin horizon, which keep vacuum from removing dead rows: sessions, prepared transactions,
-- replication slots.
select
  case
    when backend_type = 'walsender' then 'standby'
    when application_name = 'pg_dump' then 'pg_dump'
    else 'transaction'
  end as kind,
  pid,
  application_name as name,
  usename::text as role,
  host(client_addr) as client,
  datname::text as database,
  state,
  greatest(age(backend_xid), age(backend_xmin)) as xids,
  date_part('epoch', clock_timestamp() - xact_start) as seconds,
  case when starts_with(state, 'idle in transaction') then date_part('epoch', clock_timestamp() - state_change) end
    as idle_seconds,
  true as active,
  true as data,
  null::bigint as retained_bytes
from pg_stat_activity
where (backend_xid is not null or backend_xmin is not null)
  and pid <> pg_backend_pid()
  -- Parallel workers repeat their leader's xmin; and vacuum does not hold back vacuum.
  and leader_pid is null
  and backend_type <> 'autovacuum worker'
union all
select
  'prepared', null, gid, owner::text, null, database::text, null,
  age(transaction), date_part('epoch', clock_timestamp() - prepared), null, false, true, null
from pg_prepared_xacts
union all
select
  'slot', active_pid, slot_name::text, null, null, database::text, null,
  coalesce(greatest(age(xmin), age(catalog_xmin)), 0), null, null, active, xmin is not null,
  pg_wal_lsn_diff(
    case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, restart_lsn
  )::bigint
from pg_replication_slots
where xmin is not null
  or catalog_xmin is not null
  or restart_lsn is not null
order by xids desc, pid, name
limit 50
