-- The heartbeat of a supervisor: its processes live, or a place has none. It extends the leases that they report, which
-- are locked, in one statement for all. It returns what operators want: which processes must lease nothing, and which
-- jobs are canceled.
with
extended as (
  update pgflow.leases
  set expires_at = now() + %(lease_seconds)s::float8 * interval '1 second',
      progress = %(progress)s::jsonb -> leases.lease_id::text
  where leases.lease_id = any(%(lease_ids)s::uuid[])
  returning leases.lease_id
),
alive as (
  insert into pgflow.workers (
    worker_id, supervisor_id, pid, slots, busy_slots, lease_seconds, quiet, retiring, spare, last_leased_at,
    stalled_since, deaths, name, host, code_version, queues, job_types
  )
  select
    worker_id, %(supervisor_id)s::uuid, pid, slots, busy_slots, lease_seconds,
    -- If there is a row, its `quiet` counts, because operators change it. The supervisor's own value is for a row that
    -- is new, or was removed in an outage; a signal to the supervisor counts for both.
    process.quiet and (hushed or not exists (
      select from pgflow.workers as known
      where known.worker_id = process.worker_id
    )),
    retiring, spare, now() - leased_ago * interval '1 second', now() - stalled_for * interval '1 second',
    deaths, name, host, code_version, queues, job_types
  from jsonb_to_recordset(%(workers)s::jsonb) as process (
    worker_id uuid, pid integer, slots integer, busy_slots integer, lease_seconds integer, quiet boolean,
    hushed boolean, retiring boolean, spare boolean, leased_ago float8, stalled_for float8, deaths integer,
    name text, host text, code_version text, queues text[], job_types text[]
  )
  -- The leases first, as the statement of the cycle does: otherwise the two may wait for each other.
  where (select count(*) from extended) >= 0
  on conflict (worker_id) do update
  set last_heartbeat = now(),
      busy_slots = excluded.busy_slots,
      last_leased_at = greatest(workers.last_leased_at, excluded.last_leased_at),
      stalled_since = excluded.stalled_since,
      deaths = excluded.deaths,
      quiet = workers.quiet or excluded.quiet,
      retiring = excluded.retiring,
      -- A retiring process leases no more jobs, so it needs no notification of new ones.
      idle = workers.idle and not excluded.retiring,
      job_types = excluded.job_types
  returning worker_id, quiet
)
select
  'lease' as kind,
  lease_id::text as id,
  array(
    select canceled.job_id::text
    from pgflow.canceled_jobs as canceled
    where canceled.lease_id = extended.lease_id
  ) as canceled
from extended
union all
select 'quiet', worker_id::text, '{}'
from alive
where quiet
