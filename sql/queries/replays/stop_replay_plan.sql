-- Stop a plan: it creates no more jobs. It is locked already.
update pgflow.replay_plans
set state = 'stopped'
where id = %(plan_id)s::bigint
  and state = 'running'
