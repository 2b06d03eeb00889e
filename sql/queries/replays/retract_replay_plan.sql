-- Mark a plan as undone: it creates no more jobs, and cannot be resumed.
update pgflow.replay_plans
set state = 'undone',
    ended_at = coalesce(ended_at, now())
where id = %(plan_id)s::bigint
