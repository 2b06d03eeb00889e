-- The timeouts of this session that pgflow honours: what its next session begins with, not what is set for this one.
select
  name::text as name,
  -- reset_val is in the unit of the setting, milliseconds for all of them.
  reset_val::float8 / 1000 as seconds,
  source::text as source,
  quote_ident(current_user) as role
from pg_settings
where name in (
    'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout',
    'transaction_timeout'
  )
  -- Without the timeout that we set ourselves with --timeout.
  and source not in ('client', 'session')
order by name
