-- Every queue that is in use, has a policy, or was refused its first job lately; or those of some names.
with recursive refused as (
  select min(queue) as queue, 1 as place
  from pgflow.ingest_decisions
  union all
  -- From name to name through the index, not through every minute of each; names are made up, so not all of them.
  select
    (
      select min(later.queue)
      from pgflow.ingest_decisions as later
      where later.queue > refused.queue
    ),
    refused.place + 1
  from refused
  where refused.queue is not null
    and refused.place < 1000
)
select queue
from pgflow.places
where %(names)s::text[] is null
  or queue = any(%(names)s::text[])
union
select queue
from pgflow.queue_policies
where %(names)s::text[] is null
  or queue = any(%(names)s::text[])
union
select queue
from refused
where queue is not null
  and queue <> '(new)'
  and (%(names)s::text[] is null or queue = any(%(names)s::text[]))
order by queue
