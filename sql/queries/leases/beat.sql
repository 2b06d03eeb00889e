-- Say that a supervisor's processes live, or that a place has none, and extend the leases they report, which are
-- locked: one statement for all of them. What an operator wants of them comes back: which are to lease nothing, which
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
    -- The row is what counts, once there is one: an operator changes it. What the supervisor believes is for a row that
    -- is new, or was forgotten in an outage; a signal, which it hushes for, is for both.
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
      -- What retires asks for no more jobs: it need not be told of new ones.
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
