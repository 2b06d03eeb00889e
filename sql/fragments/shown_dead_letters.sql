-- The columns of a list for the dead letters in `page`.
select
  dead.job_id::text as id,
  dead.queue,
  dead.job_type,
  dead.died_at as dlq_at,
  dead.failed_attempts,
  dead.attempt_no,
  job.max_attempts,
  dead.dlq_reason_code,
  dead.error_code as last_error_code,
  dead.error_message as last_error_message,
  dead.error_fingerprint as fingerprint,
  dead.code_version,
  job.priority,
  job.run_at,
  job.created_at,
  greatest(dead.died_at, dead.resolved_at) as updated_at,
  dead.resolved_at,
  dead.resolution,
  dead.replay_job_id::text as replay_job_id,
  job.replay_of_job_id::text as replay_of_job_id,
  attempt.worker_name as worker_id
from page
join pgflow.dead_letters as dead using (job_id)
-- Left: a job may be gone sooner than its dead letter.
left join lateral (
  select max_attempts, priority, run_at, created_at, replay_of_job_id
  from (
    -- include: every_job
  ) as job
  -- A row that cannot be read must not fail the list.
  where dead.dlq_reason_code <> 'UNREADABLE'
    and job.id = page.job_id
  offset 0
) as job on true
left join lateral (
  select worker_name
  from pgflow.job_attempts
  where job_attempts.job_id = page.job_id
    and job_attempts.attempt_no = dead.attempt_no
  offset 0
) as attempt on true
