-- The rows of `pending` of some jobs, found by their keys and locked in the order of every statement that locks them.
seen as materialized (
  select wanted.id, job.queue, job.run_at
  from unnest(%(job_ids)s::text::uuid[]) as wanted (id)
  cross join lateral (
    select queue, status, run_at
    from pgflow.job_overview as overview
    where overview.id = wanted.id
    offset 0
  ) as job
  where job.status in ('queued', 'scheduled')
),
located as materialized (
  select entry.queue, entry.rank, entry.run_at, entry.job_id
  from seen
  cross join lateral (
    select pending.queue, pending.rank, pending.run_at, pending.job_id
    from pgflow.places as ranks
    join pgflow.pending
      on pending.queue = ranks.queue
      and pending.rank = ranks.rank
      and pending.run_at = seen.run_at
      and pending.job_id = seen.id
    where ranks.queue = seen.queue
    limit 1
  ) as entry
  order by entry.queue, entry.rank, entry.run_at, entry.job_id
),
-- Without jobs that a worker has leased meanwhile: their rows are gone.
locked as materialized (
  select entry.place, entry.run_at
  from located
  cross join lateral (
    select pending.ctid as place, pending.run_at
    from pgflow.pending
    where pending.queue = located.queue
      and pending.rank = located.rank
      and pending.run_at = located.run_at
      and pending.job_id = located.job_id
    for update
  ) as entry
),
