-- The attempts of the job `wanted.id`: those that have rows of their own, and the one that has succeeded.
select
  job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status, worker_name, error_code, error_message,
  error_fingerprint, code_version
from pgflow.job_attempts
where job_id = wanted.id
union all
select
  job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status, worker_name, error_code, error_message,
  error_fingerprint, code_version
from pgflow.job_attempts_archive
where job_id = wanted.id
union all
select
  job_id, lease_id, started_at, finished_at, null, attempt_no, 'succeeded', worker_name, null, null, null, code_version
from (
  -- include: success_of_job
) as succeeded
