-- Move a job that has not started out of the lease of one process, which is locked, into a lease of another: in one
-- commit, and its attempt keeps its number. Nothing if the job is not there any more.
--
-- The batch is named after the job: so a reaper knows that the job ran in this lease, and did not only wait to run
-- apart.
with entry as materialized (
  select source.lease_id, source.queue, held.job_id, held.attempt_no
  from pgflow.leases as source
  cross join lateral unnest(source.job_ids, source.attempt_nos) as held (job_id, attempt_no)
  where source.lease_id = %(lease_id)s::uuid
    and source.worker_id = %(from_worker_id)s::uuid
    and held.job_id = %(job_id)s::uuid
    and not exists (select from pgflow.fence where closed)
),
-- The row stays even if it is empty: its own worker closes it.
shrunk as (
  update pgflow.leases
  set (job_ids, attempt_nos) = (
    select
      coalesce(array_agg(held.job_id order by held.place), '{}'),
      coalesce(array_agg(held.attempt_no order by held.place), '{}')
    from unnest(leases.job_ids, leases.attempt_nos) with ordinality as held (job_id, attempt_no, place)
    where held.job_id <> entry.job_id
  )
  from entry
  where leases.lease_id = entry.lease_id
),
leased as (
  insert into pgflow.leases (batch_id, worker_id, worker_name, queue, expires_at, job_ids, attempt_nos)
  select
    job_id, %(worker_id)s::uuid, %(worker_name)s::text, queue,
    now() + %(lease_seconds)s::float8 * interval '1 second',
    array[job_id], array[attempt_no]
  from entry
  returning lease_id, queue
),
taken as (
  select
    entry.queue, %(rank)s::smallint as rank, %(run_at)s::timestamptz as run_at, entry.job_id,
    entry.attempt_no - 1 as attempt_no, job.job_type
  from entry
  cross join lateral (
    select job_type
    from pgflow.jobs
    where id = entry.job_id
    offset 0
  ) as job
)
-- include: leased_jobs
