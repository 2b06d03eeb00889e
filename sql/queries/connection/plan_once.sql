-- Until this transaction ends, plan a prepared statement once, by index, for whatever parameters come.
--
-- For statements whose planning takes longer than running them, and whose best plan is the same for all parameters.
select
  set_config('plan_cache_mode', 'force_generic_plan', true),
  set_config('enable_seqscan', 'off', true),
  set_config('jit', 'off', true)
