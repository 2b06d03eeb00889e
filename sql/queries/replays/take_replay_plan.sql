-- Become the runner of a plan: the runner before finds out at its next chunk. It is locked already.
update pgflow.replay_plans
set runner_id = gen_random_uuid(),
    runner = %(runner)s::text,
    action_id = %(action_id)s::bigint,
    state = 'running',
    seen_at = now(),
    canary_state = case when canary > 0 and canary_state <> 'passed' then 'waiting' else canary_state end
where id = %(plan_id)s::bigint
  and state in ('running', 'stopped')
returning runner_id::text as runner_id
