-- Say that somebody still runs a plan; changes nothing if it is stopped or somebody else's.
update pgflow.replay_plans
set seen_at = now()
where id = %(plan_id)s::bigint
  and runner_id = %(runner_id)s::uuid
  and state = 'running'
