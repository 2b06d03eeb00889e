-- Those of some jobs that are in no place. What is archived has succeeded.
lost as materialized (
  select wanted.id, job.queue, job.job_type, -job.priority as rank, job.attempt_no
  from (
    select distinct id
    from unnest(%(job_ids)s::text::uuid[]) as given (id)
  ) as wanted
  cross join lateral (
    select queue, job_type, priority, attempt_no, status
    from pgflow.job_overview as overview
    where overview.id = wanted.id
    offset 0
  ) as job
  where job.status = 'nowhere'
),
