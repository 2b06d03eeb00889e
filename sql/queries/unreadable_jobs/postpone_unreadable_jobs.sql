-- Postpone due jobs whose row cannot be read, and that do not become dead letters, by an hour.
with
-- include: unreadable_jobs
removed as (
  delete from pgflow.pending
  using damaged
  where pending.queue = damaged.queue
    and pending.rank = damaged.rank
    and pending.run_at = damaged.run_at
    and pending.job_id = damaged.job_id
  returning pending.queue, pending.rank, pending.job_id, pending.attempt_no, pending.job_type, damaged.reason
),
-- A row of its own, never an update: see hold_leases in 0001_jobs.
moved as (
  insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no, job_type)
  select queue, rank, now() + interval '1 hour', job_id, attempt_no, job_type
  from removed
)
select job_id::text, queue, job_type, 'the row of this job cannot be read: ' || reason as error_message
from removed
