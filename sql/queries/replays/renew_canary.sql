-- Reset the canary of a plan: its next jobs are the canary.
update pgflow.replay_items
set is_canary = false
where plan_id = %(plan_id)s::bigint
  and is_canary
