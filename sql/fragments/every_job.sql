-- Every job, in the live tables or in the archive.
select
  id, run_at, created_at, replay_of_job_id, timeout_ms, max_attempts, priority, queue, job_type, payload, meta
from pgflow.any_jobs
