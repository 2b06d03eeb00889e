-- Until this transaction ends, follow an index wherever that is possible, to its end.
select
  set_config('enable_seqscan', 'off', true),
  set_config('enable_sort', 'off', true),
  set_config('enable_bitmapscan', 'on', true),
  set_config('jit', 'off', true)
