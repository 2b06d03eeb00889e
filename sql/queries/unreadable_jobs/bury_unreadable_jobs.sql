-- Make dead letters of due jobs whose row cannot be read. Nothing is read of it but by a function that catches errors.
with
-- include: unreadable_jobs
taken as (
  delete from pgflow.pending
  using damaged
  -- A later read of the disk may succeed: such jobs are postponed instead.
  where left(damaged.reason, 2) <> '58'
    and pending.queue = damaged.queue
    and pending.rank = damaged.rank
    and pending.run_at = damaged.run_at
    and pending.job_id = damaged.job_id
  returning pending.job_id, pending.attempt_no, pending.queue, pending.job_type, damaged.reason
)
insert into pgflow.dead_letters (
  job_id, attempt_no, failed_attempts, queue, job_type, dlq_reason_code, error_code, error_message
)
-- The number of failed attempts is not read: it may be the damaged part.
select
  job_id, attempt_no, 0, queue, job_type, 'UNREADABLE', 'UNREADABLE',
  'the row of this job cannot be read: ' || reason
from taken
returning job_id::text, queue, job_type, error_message
