-- The columns of a replay plan.
plan.id as plan_id,
plan.state,
plan.created_at,
plan.ended_at,
plan.runner,
date_part('epoch', now()) - date_part('epoch', plan.seen_at) as silent_seconds,
plan.selected,
plan.created,
plan.selected - plan.created - plan.skipped - plan.failed - plan.undone as remaining,
plan.skipped,
plan.failed as refused,
plan.undone,
case when plan.seconds_apart > 0 then 1 / plan.seconds_apart end as rate,
-- Until the last of them is due.
case
  when plan.state = 'running'
    then greatest(
      0,
      date_part('epoch', coalesce(plan.next_run_at, now())) - date_part('epoch', now())
      + plan.seconds_apart
        * (plan.selected - plan.created - plan.skipped - plan.failed - plan.undone - 1)
    )
end as eta_seconds,
plan.canary,
plan.canary_state,
plan.canary_seconds,
plan.batch_size,
plan.to_queue,
plan.action_id,
plan.runner_id::text as runner_id
