-- The rest of a statement whose `looked` has rows of successes in the order of their first id: those old enough move to
-- the archive, with their jobs and their history.
ripe as materialized (
  select day, first_id, job_ids
  from looked
  where settled_at < %(cut)s::timestamptz
),
gone as materialized (
  select array(
    select entry.job_id
    from ripe
    cross join lateral unnest(ripe.job_ids) as entry (job_id)
  ) as job_ids
),
moved as (
  delete from pgflow.jobs
  -- An array: a join might be hashed, and read every partition.
  where id = any((select job_ids from gone)::uuid[])
    and id >= %(first_id)s::uuid
    and id < %(end_id)s::uuid
  returning id, run_at, created_at, replay_of_job_id, timeout_ms, max_attempts, priority, queue, job_type, payload, meta
),
history as (
  delete from pgflow.job_attempts
  where job_id = any((select job_ids from gone)::uuid[])
    and job_id >= %(first_id)s::uuid
    and job_id < %(end_id)s::uuid
  returning
    job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status, worker_name, error_code, error_message,
    error_fingerprint, code_version
),
successes as (
  delete from pgflow.job_successes
  where day = any(array(select day from ripe))
    and first_id = any(array(select first_id from ripe))
  returning
    day, first_id, lease_id, leased_at, settled_at, id_times, worker_name, code_version, job_ids, attempt_nos,
    started_ago, ended_ago
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
succeeded as (
  insert into pgflow.job_successes_archive (
    day, first_id, lease_id, leased_at, settled_at, id_times, worker_name, code_version, job_ids, attempt_nos,
    started_ago, ended_ago
  )
  select
    day, first_id, lease_id, leased_at, settled_at, id_times, worker_name, code_version, job_ids, attempt_nos,
    started_ago, ended_ago
  from successes
  on conflict (day, first_id) do nothing
),
-- enqueue searches the archive for ids up to this one.
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
  (select coalesce(sum(cardinality(job_ids)), 0)::bigint from looked) as looked,
  (select first_id::text from looked order by first_id desc limit 1) as last_id,
  (select count(*) from moved) as jobs,
  (select count(*) from history) + (select coalesce(sum(cardinality(job_ids)), 0)::bigint from successes) as attempts
