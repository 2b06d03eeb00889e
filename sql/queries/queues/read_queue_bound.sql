-- How many queues and priorities there may be, and how many there are.
select
  max_queues,
  (
    select count(*)
    from (
      select distinct queue, rank
      from pgflow.queue_ranks
      where not retired
    ) as live
  )::integer as in_use
from pgflow.gate_limits
