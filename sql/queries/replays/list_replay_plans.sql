-- List the plans of replays, the newest first.
select
  -- include: replay_plan
from pgflow.replay_plans as plan
where %(after_at)s::timestamptz is null
  or (plan.created_at, plan.id) < (%(after_at)s::timestamptz, %(after_id)s::text::bigint)
order by plan.created_at desc, plan.id desc
limit %(limit)s::integer
