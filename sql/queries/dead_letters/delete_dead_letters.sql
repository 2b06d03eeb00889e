-- Remove dead letters for good that are locked and open, with their jobs and attempts.
with gone as (
  delete from pgflow.dead_letters
  where job_id = any(%(job_ids)s::uuid[])
    and resolved_at is null
  returning job_id
),
-- The ids once more: a constant opens only the partitions that they are in.
attempts as (
  delete from pgflow.job_attempts
  where job_id = any(%(job_ids)s::uuid[])
    and job_id in (select job_id from gone)
),
jobs as (
  delete from pgflow.jobs
  where id = any(%(job_ids)s::uuid[])
    and id in (select job_id from gone)
)
select job_id::text as job_id
from gone
