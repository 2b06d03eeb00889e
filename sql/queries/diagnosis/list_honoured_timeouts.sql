-- The timeouts of this session that pgflow honours, as it began: by its role, its database, or its URL (`client`).
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
order by name
