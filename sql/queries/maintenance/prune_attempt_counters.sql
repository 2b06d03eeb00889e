-- Delete a batch of counts of attempts that are too old for every limit.
with recursive queues as (
  -- A skip scan from queue to queue: the table has no index by time alone.
  (
    select queue
    from pgflow.attempt_counters
    order by queue
    limit 1
  )
  union all
  select (
    select counter.queue
    from pgflow.attempt_counters as counter
    where counter.queue > queues.queue
    order by counter.queue
    limit 1
  )
  from queues
  where queues.queue is not null
),
doomed as materialized (
  select old.queue, old.second
  from queues
  cross join lateral (
    select counter.queue, counter.second
    from pgflow.attempt_counters as counter
    where counter.queue = queues.queue
      and counter.second < now() - interval '1 hour'
    order by counter.second
    limit %(limit)s::integer
  ) as old
  limit %(limit)s::integer
),
removed as (
  delete from pgflow.attempt_counters as counter
  using doomed
  where counter.queue = doomed.queue
    and counter.second = doomed.second
    and not %(dry_run)s::boolean
)
select count(*)
from doomed
