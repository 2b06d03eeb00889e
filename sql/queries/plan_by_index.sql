-- Until this transaction ends, read by index, whatever statistics say: they are old just when a queue has filled up, and
-- then a bitmap of all of it looks cheap, though a count ends at its limit.
select
  set_config('enable_bitmapscan', 'off', true),
  set_config('enable_seqscan', 'off', true),
  set_config('jit', 'off', true)
