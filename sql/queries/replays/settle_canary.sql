-- Record how the canary of a plan ended; anything but success stops the plan.
update pgflow.replay_plans
set canary_state = %(canary_state)s::text,
    state = case when %(canary_state)s::text = 'passed' then state else 'stopped' end
where id = %(plan_id)s::bigint
  and runner_id = %(runner_id)s::uuid
  and state = 'running'
