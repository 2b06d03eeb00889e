-- Limit the time of each statement until this transaction ends.
select set_config('statement_timeout', %(milliseconds)s::integer::text, true)
