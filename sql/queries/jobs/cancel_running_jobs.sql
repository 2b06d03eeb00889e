-- Cancel those of some jobs that run, under the lock of their leases: the outcome of their attempt is this.
with running as materialized (
  select leases.lease_id, leases.leased_at, leases.worker_name, leases.queue, entry.job_id, entry.attempt_no
  from pgflow.leases
  cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
  where leases.lease_id = any(%(lease_ids)s::text::uuid[])
    and entry.job_id = any(%(job_ids)s::text::uuid[])
),
recorded as (
  insert into pgflow.job_attempts (
    job_id, lease_id, started_at, finished_at, attempt_no, status, worker_name, error_message
  )
  select
    job_id, lease_id, leased_at,
    -- This transaction may have begun before the lease that it waited for.
    greatest(leased_at, now()),
    attempt_no, 'canceled', worker_name, %(note)s::text
  from running
  returning job_id, lease_id
),
-- Out of the arrays: a worker that gives the job back unstarted, and has waited for this, reads them again and
-- finds nothing to give back.
shrunk as (
  update pgflow.leases
  set job_ids = rest.job_ids,
      attempt_nos = rest.attempt_nos
  from (
    select
      held.lease_id,
      coalesce(array_agg(entry.job_id order by entry.place) filter (where recorded.job_id is null), '{}') as job_ids,
      coalesce(array_agg(entry.attempt_no order by entry.place) filter (where recorded.job_id is null), '{}')
        as attempt_nos
    from pgflow.leases as held
    cross join lateral unnest(held.job_ids, held.attempt_nos) with ordinality as entry (job_id, attempt_no, place)
    left join recorded on recorded.job_id = entry.job_id
    where held.lease_id = any(%(lease_ids)s::text::uuid[])
    group by held.lease_id
  ) as rest
  where leases.lease_id = rest.lease_id
),
canceled as (
  insert into pgflow.canceled_jobs (job_id, queue, canceled_by, note, action_id, lease_id)
  select running.job_id, running.queue, %(actor)s::text, %(note)s::text, %(action_id)s::bigint, running.lease_id
  from running
  join recorded using (job_id, lease_id)
  returning job_id
)
select job_id::text
from canceled
