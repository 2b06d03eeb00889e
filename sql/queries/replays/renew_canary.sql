-- Forget which jobs were the canary of a plan: the next ones are.
update pgflow.replay_items
set is_canary = false
where plan_id = %(plan_id)s::bigint
  and is_canary
