-- The rest of a statement whose `looked` names succeeded attempts in the order of job_id: what has rested for long
-- enough goes to the archive, with its history.
ripe as materialized (
  select job_id
  from looked
  where finished_at < %(cut)s::timestamptz
    -- A lease still names it, though it is settled: whoever holds the lease looks for the attempt.
    and job_id not in (
      select entry.job_id
      from pgflow.leases
      cross join lateral unnest(leases.job_ids) as entry (job_id)
    )
),
moved as (
  delete from pgflow.jobs
  -- An array: a join might be hashed, and read every partition.
  where id = any(array(select job_id from ripe))
    and id >= %(first_id)s::uuid
    and id < %(end_id)s::uuid
  returning id, run_at, created_at, replay_of_job_id, timeout_ms, max_attempts, priority, queue, job_type, payload, meta
),
history as (
  delete from pgflow.job_attempts
  where job_id = any(array(select id from moved))
    and job_id >= %(first_id)s::uuid
    and job_id < %(end_id)s::uuid
  returning
    job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status, worker_name, error_code, error_message,
    error_fingerprint, code_version
),
archived as (
  insert into pgflow.jobs_archive (
    id, run_at, created_at, replay_of_job_id, timeout_ms, max_attempts, priority, queue, job_type, payload, meta
  )
  select
    id, run_at, created_at, replay_of_job_id, timeout_ms, max_attempts, priority, queue, job_type, payload, meta
  from moved
  -- An id that was enqueued again after its job had been archived: the first one is kept.
  on conflict (id) do nothing
),
remembered as (
  insert into pgflow.job_attempts_archive (
    job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status, worker_name, error_code, error_message,
    error_fingerprint, code_version
  )
  select
    job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status, worker_name, error_code, error_message,
    error_fingerprint, code_version
  from history
  on conflict (job_id, attempt_no) do nothing
),
-- enqueue looks into the archive for ids up to here.
marked as (
  update pgflow.history_marks
  set archived_until = newest.id
  from (
    select id
    from moved
    order by id desc
    limit 1
  ) as newest
  where history_marks.archived_until < newest.id
)
select
  (select count(*) from looked) as looked,
  (select job_id::text from looked order by job_id desc limit 1) as last_id,
  (select count(*) from moved) as jobs,
  (select count(*) from history) as attempts
