-- The timeouts that this role and this database set, the nearest first where several do: for a session that they have
-- ended before it could tell what it began with.
select distinct on (given.name)
  given.name,
  date_part('epoch', (given.value || case when given.value ~ '[a-z]$' then '' else 'ms' end)::interval) as seconds,
  case
    when kept.setrole = 0 then 'database'
    when kept.setdatabase = 0 then 'user'
    else 'database user'
  end as source,
  quote_ident(session_user) as role
from pg_db_role_setting as kept
cross join lateral unnest(kept.setconfig) as entry (setting)
cross join lateral (
  select split_part(entry.setting, '=', 1) as name, split_part(entry.setting, '=', 2) as value
) as given
where kept.setrole in (0, (select oid from pg_roles where rolname = session_user))
  and kept.setdatabase in (0, (select oid from pg_database where datname = current_database()))
  and given.name in (
    'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout',
    'transaction_timeout'
  )
  -- As PostgreSQL writes them; nothing else is an interval for certain.
  and given.value ~ '^[0-9]{1,10}(ms|s|min|h|d)?$'
order by given.name, kept.setrole = 0, kept.setdatabase = 0
