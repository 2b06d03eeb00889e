-- Record that the plan's runner lives; changes nothing if the plan was stopped or has another runner.
update pgflow.replay_plans
set seen_at = now()
where id = %(plan_id)s::bigint
  and runner_id = %(runner_id)s::uuid
  and state = 'running'
