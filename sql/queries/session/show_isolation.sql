-- The first of several statements in one pipeline. The server treats them as one transaction only from the second on,
-- and `set transaction` before that is a warning. `show` takes no snapshot, after which `set transaction` would be too
-- late.
show transaction_isolation
