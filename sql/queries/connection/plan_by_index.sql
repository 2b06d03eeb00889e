-- Until this transaction ends, read by index, whatever statistics say.
--
-- They are old just when a queue has filled up: a bitmap of all of it looks cheap then, though a count ends at a limit.
select
  set_config('enable_bitmapscan', 'off', true),
  set_config('enable_seqscan', 'off', true),
  set_config('jit', 'off', true)
