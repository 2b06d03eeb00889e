-- Delete a batch of counts of enqueues that are too old for every limit.
with recursive queues as (
  -- A skip scan from queue to queue: the table has no index by time alone.
  (
    select queue
    from pgflow.enqueue_counters
    order by queue
    limit 1
  )
  union all
  select (
    select counter.queue
    from pgflow.enqueue_counters as counter
    where counter.queue > queues.queue
    order by counter.queue
    limit 1
  )
  from queues
  where queues.queue is not null
),
doomed as materialized (
  select old.id
  from queues
  cross join lateral (
    select counter.id
    from pgflow.enqueue_counters as counter
    where counter.queue = queues.queue
      and counter.minute < now() - interval '1 hour'
    order by counter.minute
    limit %(limit)s::integer
  ) as old
  limit %(limit)s::integer
),
removed as (
  delete from pgflow.enqueue_counters as counter
  using doomed
  where counter.id = doomed.id
    and not %(dry_run)s::boolean
)
select count(*)
from doomed
