-- Remove what plans of replays that are older than ninety days were about, the oldest few.
with doomed as materialized (
  select item.plan_id, item.place
  from pgflow.replay_plans as plan
  join pgflow.replay_items as item on item.plan_id = plan.id
  where plan.created_at < now() - interval '90 days'
  order by item.plan_id, item.place
  limit %(limit)s::integer
),
removed as (
  delete from pgflow.replay_items as item
  using doomed
  where item.plan_id = doomed.plan_id
    and item.place = doomed.place
    and not %(dry_run)s::boolean
)
select count(*)
from doomed
