-- Remove jobs that were canceled before some time, with their history, the oldest few.
with doomed as materialized (
  select job_id
  from pgflow.canceled_jobs
  where canceled_at < %(before)s::text::timestamptz
  order by canceled_at, job_id
  limit %(limit)s::integer
  for update skip locked
),
ended as (
  delete from pgflow.canceled_jobs
  where job_id = any(array(select job_id from doomed))
    and canceled_at < %(before)s::text::timestamptz
  returning job_id
),
-- include: remove_jobs
