-- Waiting, running and dead jobs of each of these queues, and its limits. Counts stop at a limit.
with held as materialized (
  select
    leases.queue, leases.leased_at, leases.expires_at < now() as expired, leases.lease_id
  from pgflow.leases
  cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
  where leases.queue = any(%(queues)s::text[])
)
select
  named.queue,
  %(limit)s::integer - 1 as counted,
  due.jobs::integer as runnable,
  later.jobs::integer as scheduled,
  later.retrying::integer as retrying,
  running.jobs::integer as running,
  dead.jobs::integer as dlq,
  date_part('epoch', now()) - date_part('epoch', oldest.run_at) as oldest_age_seconds,
  date_part('epoch', now()) - date_part('epoch', running.oldest) as oldest_running_age_seconds,
  running.expired_leases::integer as expired_leases,
  coalesce(gate.paused, false) as paused,
  policy.max_in_flight,
  policy.max_attempts_per_minute,
  policy.throttle_delay_ms,
  policy.max_payload_bytes,
  policy.max_enqueue_per_minute,
  -- Null also for a pause without an end.
  case when gate.paused and isfinite(policy.paused_until) then policy.paused_until end as paused_until,
  case when gate.paused then policy.paused_by end as paused_by,
  case when gate.paused then policy.pause_note end as pause_note
from unnest(%(queues)s::text[]) as named (queue)
left join pgflow.queue_policies as policy using (queue)
left join pgflow.queue_gates as gate using (queue)
-- Rank by rank, as a lease looks: no job of the future is walked over to find what is due.
cross join lateral (
  select count(*) as jobs
  from (
    select
    from pgflow.places as ranks
    cross join lateral (
      select
      from pgflow.pending
      where pending.queue = ranks.queue
        and pending.rank = ranks.rank
        and pending.run_at <= now()
      -- By the index, to its last column: a scan of the table looks cheap to the planner until the queue is a rare one.
      order by pending.queue, pending.rank, pending.run_at, pending.job_id
      limit %(limit)s::integer
    ) as entry
    where ranks.queue = named.queue
    limit %(limit)s::integer
  ) as counted
) as due
cross join lateral (
  select min(first.run_at) as run_at
  from pgflow.places as ranks
  cross join lateral (
    select pending.run_at
    from pgflow.pending
    where pending.queue = ranks.queue
      and pending.rank = ranks.rank
      and pending.run_at <= now()
    order by pending.queue, pending.rank, pending.run_at, pending.job_id
    limit 1
  ) as first
  where ranks.queue = named.queue
) as oldest
cross join lateral (
  select count(*) as jobs, count(*) filter (where attempt_no > 0) as retrying
  from (
    select entry.attempt_no
    from pgflow.places as ranks
    cross join lateral (
      select pending.attempt_no
      from pgflow.pending
      where pending.queue = ranks.queue
        and pending.rank = ranks.rank
        and pending.run_at > now()
      order by pending.queue, pending.rank, pending.run_at, pending.job_id
      limit %(limit)s::integer
    ) as entry
    where ranks.queue = named.queue
    limit %(limit)s::integer
  ) as counted
) as later
cross join lateral (
  select
    count(*) as jobs, min(held.leased_at) as oldest,
    count(distinct held.lease_id) filter (where held.expired) as expired_leases
  from held
  where held.queue = named.queue
) as running
cross join lateral (
  select count(*) as jobs
  from (
    select
    from pgflow.dead_letters
    where dead_letters.queue = named.queue
      and dead_letters.resolved_at is null
    order by dead_letters.died_at, dead_letters.job_id
    limit %(limit)s::integer
  ) as counted
) as dead
order by named.queue
