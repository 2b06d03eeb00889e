-- The progress of a replay plan, and how its jobs have ended.
select
  -- include: replay_plan
  ,
  plan.created - ended.jobs - running.jobs as waiting,
  running.jobs as running,
  ended.succeeded,
  ended.dead as failed,
  ended.canceled
from pgflow.replay_plans as plan
-- include: replay_progress
where plan.id = %(plan_id)s::bigint
