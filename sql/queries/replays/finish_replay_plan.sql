-- Record that every job of a plan has been created.
update pgflow.replay_plans
set state = 'finished',
    ended_at = now()
where id = %(plan_id)s::bigint
  and runner_id = %(runner_id)s::uuid
  and state = 'running'
