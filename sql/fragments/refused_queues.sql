-- Queues in whose name a job was refused lately, one after the other. From name to name through the index, not through
-- every minute of each; names are made up, so not all of them.
select min(queue) as queue, 1 as place
from pgflow.ingest_decisions
union all
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
