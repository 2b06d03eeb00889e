-- Every queue that is in use, has a policy, or was refused its first job lately; or those of some names.
with recursive refused as (
-- include: refused_queues
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
