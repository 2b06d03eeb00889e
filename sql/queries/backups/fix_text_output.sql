-- Give rows the same text on every server, and let the transaction stay idle while pg_dump runs.
select
  set_config('timezone', 'UTC', true),
  set_config('datestyle', 'ISO, YMD', true),
  set_config('intervalstyle', 'iso_8601', true),
  set_config('extra_float_digits', '1', true),
  set_config('bytea_output', 'hex', true),
  set_config('statement_timeout', '0', true),
  set_config('idle_in_transaction_session_timeout', '0', true)
