-- Remove what operators did more than ninety days ago, the oldest few. One that still runs stays.
with doomed as materialized (
  select id
  from pgflow.operator_actions
  where at < now() - interval '90 days'
    and finished_at is not null
  order by at, id
  limit %(limit)s::integer
),
removed as (
  delete from pgflow.operator_actions
  where id = any(array(select id from doomed))
    and not %(dry_run)s::boolean
)
select count(*)
from doomed
