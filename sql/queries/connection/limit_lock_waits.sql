-- Limit each wait for a lock until this transaction ends.
select set_config('lock_timeout', greatest(%(milliseconds)s::integer, 1)::text, true)
