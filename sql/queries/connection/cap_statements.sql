-- Give up on statements of this transaction that take longer, unless the role or the database gives up earlier.
select set_config(
  'statement_timeout',
  least(
    %(milliseconds)s::integer,
    -- Written with a unit, such as 200ms or 5min; 0 is no limit.
    nullif((date_part('epoch', current_setting('statement_timeout')::interval) * 1000)::bigint, 0)
  )::text,
  true
)
