-- Cancel those of some jobs that wait. Jobs that a worker leases meanwhile stay with it.
with
-- include: locked_waiting_jobs
taken as (
  delete from pgflow.pending
  -- An array, not a join: a join may read the whole backlog.
  where ctid = any(array(select place from locked))
  returning job_id, queue
),
canceled as (
  insert into pgflow.canceled_jobs (job_id, queue, canceled_by, note, action_id)
  select job_id, queue, %(actor)s::text, %(note)s::text, %(action_id)s::bigint
  from taken
  returning job_id
)
select job_id::text
from canceled
