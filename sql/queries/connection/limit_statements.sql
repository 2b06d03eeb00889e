-- Give up on any statement that takes longer, until this transaction ends.
select set_config('statement_timeout', %(milliseconds)s::integer::text, true)
