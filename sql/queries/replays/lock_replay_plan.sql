-- Read a plan of replays and keep it to oneself until the transaction ends.
select
  -- include: replay_plan
from pgflow.replay_plans as plan
where plan.id = %(plan_id)s::bigint
for update
