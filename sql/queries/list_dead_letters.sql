-- List the dead letters that nobody has resolved, the latest death first.
select
  dead.job_id::text as job_id,
  dead.queue,
  dead.job_type,
  dead.died_at,
  dead.failed_attempts,
  dead.attempt_no,
  jobs.max_attempts,
  dead.dlq_reason_code,
  dead.error_code,
  dead.error_message
from pgflow.dead_letters as dead
-- Left: the archive may have taken the job.
left join pgflow.jobs on jobs.id = dead.job_id
where dead.resolved_at is null
order by dead.died_at desc, dead.job_id desc
limit %(limit)s::integer
