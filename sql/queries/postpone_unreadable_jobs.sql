-- Pass over due jobs whose row cannot be read, and that no dead letter can be made of: for an hour.
with
-- include: unreadable_jobs
moved as (
  update pgflow.pending
  set run_at = now() + interval '1 hour'
  from damaged
  where pending.queue = damaged.queue
    and pending.rank = damaged.rank
    and pending.run_at = damaged.run_at
    and pending.job_id = damaged.job_id
  returning pending.job_id, pending.queue, pending.job_type, damaged.reason
)
select job_id::text, queue, job_type, 'the row of this job cannot be read: ' || reason as error_message
from moved
