-- The types among the first due jobs of each queue that is not paused.
select
  entry.queue,
  entry.job_type,
  count(*) as jobs,
  date_part('epoch', now()) - date_part('epoch', min(entry.run_at)) as waits_seconds
from pgflow.places as ranks
cross join lateral (
  select pending.queue, pending.job_type, pending.run_at
  from pgflow.pending
  where pending.queue = ranks.queue
    and pending.rank = ranks.rank
    and pending.run_at <= now()
  -- Every column of the index, to its last: otherwise the whole backlog is sorted.
  order by pending.queue, pending.rank, pending.run_at, pending.job_id
  limit %(limit)s::integer
) as entry
where not exists (
  select from pgflow.queue_gates as gate
  where gate.queue = ranks.queue
    and gate.paused
)
group by entry.queue, entry.job_type
order by waits_seconds desc, entry.queue, entry.job_type
