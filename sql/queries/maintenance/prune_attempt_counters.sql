-- Remove counts of attempts that no limit looks at any more, a few.
with recursive queues as (
  -- From one queue to the next: the table has no index by time alone.
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
