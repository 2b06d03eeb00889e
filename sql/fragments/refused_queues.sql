-- Queues for which a job was refused lately. A recursive skip scan of the index, from name to name; it has a limit,
-- because producers can invent names.
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
