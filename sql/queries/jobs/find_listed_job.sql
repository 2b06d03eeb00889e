-- One job as lists show it, wherever it is kept.
select
  null::timestamptz as at, id::text as id, queue, job_type, status, run_at, priority::integer as priority, max_attempts,
  last_error_code, last_error_message, dlq_reason_code, created_at, updated_at, short_id, attempt_no, dlq_at,
  fingerprint, resolved_at, replay_of_job_id::text as replay_of_job_id, worker_id, lease_expires_at,
  null::bigint as looked
from pgflow.job_overview
where id = %(job_id)s::uuid
-- As in describe_job: the later one of two.
order by created_at desc
limit 1
