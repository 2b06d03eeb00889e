-- Every queue that has ever been used, has a policy, or was refused its first job.
with recursive refused as (
  select min(queue) as queue
  from pgflow.ingest_decisions
  union all
  -- From name to name through the index, not through every minute of each.
  select (
    select min(later.queue)
    from pgflow.ingest_decisions as later
    where later.queue > refused.queue
  )
  from refused
  where refused.queue is not null
)
select queue
from pgflow.places
union
select queue
from pgflow.queue_policies
union
select queue
from refused
where queue is not null
order by queue
