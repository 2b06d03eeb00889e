-- Read a replay plan and lock it until the transaction ends.
select
  -- include: replay_plan
from pgflow.replay_plans as plan
where plan.id = %(plan_id)s::bigint
for update
