-- Remove plans of replays that are older than ninety days and have no items left, the oldest few.
with doomed as materialized (
  select id
  from pgflow.replay_plans as plan
  where created_at < now() - interval '90 days'
    and not exists (select from pgflow.replay_items where plan_id = plan.id)
  order by created_at, id
  limit %(limit)s::integer
),
removed as (
  delete from pgflow.replay_plans
  where id = any(array(select id from doomed))
    and not %(dry_run)s::boolean
)
select count(*)
from doomed
