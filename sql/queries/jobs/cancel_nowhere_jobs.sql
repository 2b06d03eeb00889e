-- Cancel those of some jobs that are in no place. They are locked.
with
-- include: nowhere_jobs
canceled as (
  insert into pgflow.canceled_jobs (job_id, queue, canceled_by, note, action_id)
  select id, queue, %(actor)s::text, %(note)s::text, %(action_id)s::bigint
  from lost
  returning job_id
)
select job_id::text
from canceled
