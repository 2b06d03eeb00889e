-- Settle what ended and lease what is free: one statement, one commit, one round trip. Either part may be empty.
with
-- The leases that still exist. A function locks them, as functions do every change of rows that other sessions change,
-- too: hold_leases in 0001_jobs says why.
fence as materialized (
  select lease_id, batch_id, leased_at, queue, job_ids, attempt_nos
  from pgflow.hold_leases(%(fence_ids)s::uuid[], %(worker_id)s::uuid)
),
held as (
  select fence.lease_id, fence.leased_at, entry.job_id, entry.attempt_no
  from fence
  cross join lateral unnest(fence.job_ids, fence.attempt_nos) as entry (job_id, attempt_no)
),
-- Successes come as plain arrays, because they are nearly all there is; everything else in one document. An outcome
-- whose lease is gone has no leased_at.
succeeded as materialized (
  select success.lease_id, success.job_id, success.attempt_no, success.started_ago, success.ended_ago, held.leased_at
  from unnest(
    %(lease_ids)s::uuid[], %(job_ids)s::uuid[], %(attempt_nos)s::integer[],
    %(started_ago)s::real[], %(ended_ago)s::real[]
  ) as success (lease_id, job_id, attempt_no, started_ago, ended_ago)
  left join held using (lease_id, job_id, attempt_no)
),
reported as materialized (
  select
    other.lease_id, other.job_id, other.attempt_no, other.status, other.started_ago, other.ended_ago, other.error_code,
    other.error_message, other.error_fingerprint, other.delay, other.dlq_reason_code, other.failed_attempts,
    other.run_at, held.leased_at
  from jsonb_to_recordset(%(others)s::jsonb) as other (
    lease_id uuid, job_id uuid, attempt_no integer, status text, started_ago float8, ended_ago float8,
    error_code text, error_message text, error_fingerprint text,
    delay float8, dlq_reason_code text, failed_attempts integer, run_at timestamptz
  )
  left join held using (lease_id, job_id, attempt_no)
),
-- include: kept_successes
settled as (
  insert into pgflow.job_attempts (
    job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status, worker_name,
    error_code, error_message, error_fingerprint, code_version
  )
  select
    job_id, lease_id,
    -- Durations are the worker's, instants the database's: an attempt never starts before its lease, which may be later
    -- than now() if the clock has stepped, and never ends before it starts.
    greatest(leased_at, now() - started_ago * interval '1 second'),
    greatest(leased_at, now() - started_ago * interval '1 second', now() - ended_ago * interval '1 second'),
    now() + delay * interval '1 second',
    attempt_no, status, %(worker_name)s::text,
    error_code, error_message, error_fingerprint, %(code_version)s::text
  from reported
  where leased_at is not null
    and status not in ('unstarted', 'left')
  on conflict (job_id, attempt_no) do nothing
  returning job_id, lease_id, attempt_no, next_run_at
),
-- A job given back before it started, which keeps its number and its place in the queue, and one left without an
-- outcome.
departed as (
  select
    lease_id, job_id, attempt_no, status,
    -- Without a delay, as nearly always, greatest takes what is not null.
    greatest(run_at, now() + delay * interval '1 second') as run_at
  from reported
  where leased_at is not null
    and status in ('unstarted', 'left')
),
-- Outcomes whose lease is gone. Materialized: it is nearly always empty, and then nothing is looked up.
refused as materialized (
  select lease_id, job_id, attempt_no, 'succeeded' as status
  from succeeded
  where leased_at is null
  union all
  select lease_id, job_id, attempt_no, status
  from reported
  where leased_at is null
    and status <> 'left'
),
returned as (
  insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no, job_type)
  select
    job.queue,
    -- An operator's new priority outlives the attempt.
    coalesce((select moved.rank from pgflow.moved_jobs as moved where moved.job_id = back.job_id), -job.priority),
    back.run_at, back.job_id, back.attempt_no, job.job_type
  from (
    select job_id, next_run_at as run_at, attempt_no
    from settled
    where next_run_at is not null
    union all
    select job_id, run_at, attempt_no - 1
    from departed
    where status = 'unstarted'
  ) as back
  cross join lateral (
    select queue, priority, job_type
    from pgflow.jobs
    where id = back.job_id
    -- Without this the planner may hash-join, and read every partition.
    offset 0
  ) as job
  returning job_id
),
buried as (
  insert into pgflow.dead_letters (
    job_id, attempt_no, failed_attempts, queue, job_type, dlq_reason_code,
    error_code, error_message, error_fingerprint, code_version
  )
  select
    reported.job_id, reported.attempt_no, reported.failed_attempts, job.queue, job.job_type,
    reported.dlq_reason_code, reported.error_code, reported.error_message, reported.error_fingerprint,
    %(code_version)s::text
  from reported
  join settled using (job_id, attempt_no)
  cross join lateral (
    select queue, job_type
    from pgflow.jobs
    where id = reported.job_id
    offset 0
  ) as job
  where reported.dlq_reason_code is not null
  returning job_id
),
-- No heartbeat renews this lease, and its worker does not know it: a reaper takes it at once, though what was leased
-- with it still runs, and counts the attempt as lost.
left_behind as (
  insert into pgflow.leases (
    batch_id, worker_id, worker_name, queue, leased_at, expires_at, job_ids, attempt_nos
  )
  select
    fence.batch_id, gen_random_uuid(), %(worker_name)s::text, fence.queue, fence.leased_at, now(),
    array_agg(departed.job_id), array_agg(departed.attempt_no)
  from departed
  join fence using (lease_id)
  where departed.status = 'left'
  group by fence.lease_id, fence.batch_id, fence.queue, fence.leased_at
),
taken as (
  delete from pgflow.pending
  -- An array, not a join: a join may evaluate the limited part twice and take more than its limit.
  where ctid = any(array(
    select entry.ctid
    from (
      select
        ranks.queue, ranks.rank,
        coalesce(ranks.run_at, '-infinity') as run_at,
        coalesce(ranks.job_id, '00000000-0000-0000-0000-000000000000') as job_id
      from (
        -- include: places_to_scan
      ) as ranks
      -- Limits are counted under a lock, by lease_limited. Hashed, as above: no join, whatever there is of both.
      where ranks.queue not in (
          select queue from pgflow.queue_gates
          where paused or limited
        )
        -- A restored or cloned database: its jobs may have been finished elsewhere.
        and not exists (select from pgflow.fence where closed)
        -- The statement has waited for a table's lock for longer than its caller waits: no process would start the
        -- leased jobs, and the lease might expire before a reply arrives.
        and (select clock_timestamp()) < now() + %(lease_seconds)s::float8 * interval '1 second' / 2
      -- Queues take turns, beginning after the one served last; inside a queue, priority is strict.
      order by ranks.queue <= %(last_queue)s::text, ranks.queue, ranks.rank
    ) as place
    cross join lateral (
      select pending.ctid
      from pgflow.pending
      -- include: due_entries
        and (pending.run_at, pending.job_id) >= (place.run_at, place.job_id)
      -- Every column of the index, to its last: otherwise the whole backlog is sorted.
      order by pending.queue, pending.rank, pending.run_at, pending.job_id
      limit %(room)s::integer
      for update skip locked
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
-- Queues with a limit where something is due: how many may be asked now, and how many may ever give a job.
limited as materialized (
  select
    count(*) filter (where not gate.throttled)::integer as open,
    count(*) filter (where not gate.closed)::integer as waiting
  from pgflow.queue_gates as gate
  where gate.limited
    and not gate.paused
    and %(room)s::integer > 0
    and (%(queues)s::text[] is null or gate.queue = any(%(queues)s::text[]))
    and exists (
      select
      from pgflow.places as place
      cross join lateral (
        select
        from pgflow.pending
        -- include: due_entries
        limit 1
      ) as entry
      where place.queue = gate.queue
      -- Without this it may be a join, that looks into each place for each such queue.
      offset 0
    )
),
-- Evaluated once, because the first row references it, and after the CTEs that it reads.
finished as materialized (
  select pgflow.finish_turn(
    array(
      select lease_id from kept
      union
      select lease_id from settled
      union
      select lease_id from departed
    ),
    array(
      select entry.job_id
      from kept
      cross join lateral unnest(kept.job_ids) as entry (job_id)
      union all
      select job_id from settled
      union all
      select job_id from departed
    ),
    array(select lease_id from fence where lease_id = any(%(closed_ids)s::uuid[])),
    %(worker_id)s::uuid,
    case when %(room)s::integer > 0 then not exists (select from taken) end
  )
  -- After all that may wait, such as a trigger: from here on, a heartbeat waits for this statement.
  where (select count(*) from returned) >= 0
    and (select count(*) from buried) >= 0
)
-- First what the turn itself has found, in a document; then the jobs.
select
  jsonb_build_object(
    'scanned_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
    'limited_open', limited.open,
    'limited_waiting', limited.waiting,
    -- Outcomes that came too late.
    'lost', array(
      select job_id
      from refused
      where not pgflow.is_settled(lease_id, job_id, attempt_no, status)
    )
  )::text as turn,
  null::text as lease_id, null::text as job_id, null::text as queue, null::smallint as rank, null::text as run_at,
  null::integer as attempt_no, null::text as job_type, null::text as payload, null::integer as max_attempts,
  null::bigint as timeout_ms, null::text as meta, null::text as replay_of_job_id,
  null::bigint as failed_attempts, null::bigint as lost_attempts
from limited
cross join finished
union all
select null, job.*
from (
-- include: leased_jobs
) as job
