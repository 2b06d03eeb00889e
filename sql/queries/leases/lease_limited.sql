-- Lease from queues with a limit, whose policies are locked: never more than the limit leaves by this snapshot.
with quota as materialized (
  select
    queue, max_in_flight, max_attempts_per_minute, in_flight, attempts_last_minute, next_free_at,
    -- The lesser of the two that are set.
    greatest(0, least(max_in_flight - in_flight, max_attempts_per_minute - attempts_last_minute)) as room
  from pgflow.queue_usage
  where queue = any(%(queues)s::text[])
),
taken as (
  delete from pgflow.pending
  -- An array, not a join: a join may evaluate the limited part twice and take more than its limit.
  where ctid = any(array(
    select entry.ctid
    from (
      select queue, room
      from quota
      where not exists (select from pgflow.fence where closed)
        -- As in settle_and_lease; this transaction has two statements that its caller waits for.
        and (select clock_timestamp()) < now() + %(lease_seconds)s::float8 * interval '1 second' * 2 / 3
      -- Queues take turns, beginning after the one served last.
      order by queue <= %(last_queue)s::text, queue
    ) as turn
    cross join lateral (
      select due.ctid
      from (
        select ranks.queue, ranks.rank
        from pgflow.places as ranks
        where ranks.queue = turn.queue
        order by ranks.rank
      ) as place
      cross join lateral (
        select pending.ctid
        from pgflow.pending
        -- include: due_entries
        -- Every column of the index, to its last: otherwise the whole backlog is sorted.
        order by pending.queue, pending.rank, pending.run_at, pending.job_id
        limit turn.room
        for update skip locked
      ) as due
      limit turn.room
    ) as entry
    limit %(room)s::integer
  ))
  returning queue, rank, run_at, job_id, attempt_no, job_type
),
leased as (
  insert into pgflow.leases (batch_id, worker_id, worker_name, queue, expires_at, job_ids, attempt_nos)
  select
    %(batch_id)s::uuid, %(worker_id)s::uuid, %(worker_name)s::text, queue,
    now() + %(lease_seconds)s::float8 * interval '1 second',
    array_agg(job_id order by rank, run_at, job_id),
    array_agg(attempt_no + 1 order by rank, run_at, job_id)
  from taken
  group by queue
  returning lease_id, queue
),
-- The counters of the limit of attempts: a row for each second.
counted as (
  insert into pgflow.attempt_counters (queue, second, count)
  select taken.queue, date_trunc('second', now()), count(*)
  from taken
  join quota using (queue)
  where quota.max_attempts_per_minute is not null
  group by taken.queue
  on conflict (queue, second) do update
  set count = attempt_counters.count + excluded.count
),
forgotten as (
  delete from pgflow.attempt_counters
  using quota
  where attempt_counters.queue = quota.queue
    and attempt_counters.second < now() - interval '2 minutes'
),
-- Queues whose limit is spent while a job that this worker could run is due.
held as materialized (
  select
    quota.queue, waiting.job_id,
    case
      when quota.in_flight + used.jobs >= quota.max_in_flight then 'IN_FLIGHT_EXCEEDED'
      else 'RETRY_RATE_EXCEEDED'
    end as reason_code,
    jsonb_strip_nulls(jsonb_build_object(
      'max_in_flight', quota.max_in_flight,
      'in_flight', case when quota.max_in_flight is not null then quota.in_flight + used.jobs end,
      'max_attempts_per_minute', quota.max_attempts_per_minute,
      'attempts_last_minute',
        case when quota.max_attempts_per_minute is not null then quota.attempts_last_minute + used.jobs end
    )) as details_json
  from quota
  cross join lateral (
    select count(*) as jobs
    from taken
    where taken.queue = quota.queue
  ) as used
  cross join lateral (
    select due.job_id
    from pgflow.places as place
    cross join lateral (
      select pending.job_id
      from pgflow.pending
      -- include: due_entries
        and not exists (select from taken where taken.job_id = pending.job_id)
      order by pending.queue, pending.rank, pending.run_at, pending.job_id
      limit 1
    ) as due
    where place.queue = quota.queue
    order by place.rank
    limit 1
  ) as waiting
  where used.jobs >= quota.room
),
-- A row for each queue, reason and minute, written at most once a second: `count` is in how many seconds it held.
recorded as (
  insert into pgflow.policy_decisions (queue, decision, reason_code, minute, sample_job_id, details_json)
  select queue, 'THROTTLED', reason_code, date_trunc('minute', now()), job_id, details_json
  from held
  on conflict (queue, reason_code, minute) do update
  set count = policy_decisions.count + 1,
      last_at = now(),
      details_json = excluded.details_json
  where policy_decisions.last_at < now() - interval '1 second'
),
-- For as long as the policy says the queue is left alone; run_at of its jobs stays what it was.
throttled as (
  update pgflow.queue_policies
  set throttled_until = now() + throttle_delay_ms * interval '1 millisecond'
  from held
  where queue_policies.queue = held.queue
    and throttle_delay_ms > 0
)
-- include: leased_jobs
