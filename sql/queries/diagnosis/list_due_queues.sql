-- The oldest due job of each queue that has one, and whether a pause or a limit holds it.
select distinct on (entry.queue)
  entry.queue,
  entry.job_id::text as job_id,
  date_part('epoch', now()) - date_part('epoch', entry.run_at) as waits_seconds,
  coalesce(gate.paused, false) as paused,
  coalesce(gate.limited, false) as limited
from pgflow.places as ranks
cross join lateral (
  select pending.queue, pending.run_at, pending.job_id
  from pgflow.pending
  where pending.queue = ranks.queue
    and pending.rank = ranks.rank
    and pending.run_at <= now()
  -- Every column of the index, to its last: otherwise the whole backlog is sorted.
  order by pending.queue, pending.rank, pending.run_at, pending.job_id
  limit 1
) as entry
left join pgflow.queue_gates as gate on gate.queue = entry.queue
order by entry.queue, entry.run_at, entry.job_id
