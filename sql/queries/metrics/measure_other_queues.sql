-- What waits in all queues but these, together, each counted up to a limit.
select
  count(distinct place.queue)::integer as queues,
  coalesce(sum(due.jobs), 0)::bigint as runnable,
  coalesce(sum(later.jobs), 0)::bigint as scheduled,
  date_part('epoch', now()) - date_part('epoch', min(due.run_at)) as oldest_age_seconds
from pgflow.places as place
cross join lateral (
  select count(*) as jobs, min(entry.run_at) as run_at
  from (
    select pending.run_at
    from pgflow.pending
    where pending.queue = place.queue
      and pending.rank = place.rank
      and pending.run_at <= now()
    order by pending.queue, pending.rank, pending.run_at, pending.job_id
    limit %(limit)s::integer
  ) as entry
) as due
cross join lateral (
  select count(*) as jobs
  from (
    select
    from pgflow.pending
    where pending.queue = place.queue
      and pending.rank = place.rank
      and pending.run_at > now()
    order by pending.queue, pending.rank, pending.run_at, pending.job_id
    limit %(limit)s::integer
  ) as entry
) as later
where place.queue not in (select named.queue from unnest(%(queues)s::text[]) as named (queue))
