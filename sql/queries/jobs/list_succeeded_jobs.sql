-- Jobs that have succeeded, newest first by the time in their id: in what order they ended, no index knows.
with looked as materialized (
  select null::timestamptz as at, job_id as id
  from pgflow.job_attempts
  where status = 'succeeded'
    and job_id >=
-- include: since_id
    and job_id <
-- include: until_id
    and job_id < coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  order by job_id desc
  limit %(most)s::integer
),
-- include: listed_jobs
