-- Read open dead letters with their payloads, the latest death first; as text, for numbers that Python cannot hold.
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
  job.replay_of_job_id::text as replay_of_job_id,
  job.meta,
  job.payload
from pgflow.dead_letters as dead
left join lateral (
  select max_attempts, priority, run_at, created_at, replay_of_job_id, meta::text as meta, payload::text as payload
  from (
    -- include: every_job
  ) as job
  -- A row that cannot be read must not fail the export.
  where dead.dlq_reason_code <> 'UNREADABLE'
    and job.id = dead.job_id
  offset 0
) as job on true
where dead.resolved_at is null
  and (
    %(after_at)s::timestamptz is null
    or (dead.died_at, dead.job_id) < (%(after_at)s::timestamptz, %(after_id)s::uuid)
  )
  and
  -- include: chosen_dead_letters
order by dead.died_at desc, dead.job_id desc
limit %(limit)s::integer
