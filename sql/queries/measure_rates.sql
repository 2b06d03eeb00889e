-- How many jobs come into a queue and leave it for good: a sample of the newest, of a window at most.
--
-- Where the sample is full it reaches back less far than the window, and the rate is taken over what it covers.
with fresh as materialized (
  select queue, created_at
  from pgflow.jobs
  order by id desc
  limit %(limit)s::integer
),
settled as materialized (
  select job_id, finished_at, next_run_at
  from pgflow.job_attempts
  order by job_id desc, attempt_no desc
  limit %(limit)s::integer
),
arrivals as (
  select
    count(*) filter (
      where queue = %(queue)s::text
        and created_at > now() - %(window)s::float8 * interval '1 second'
    ) as jobs,
    case
      when count(*) < %(limit)s::integer then %(window)s::float8
      else least(%(window)s::float8, date_part('epoch', now()) - date_part('epoch', min(created_at)))
    end as seconds
  from fresh
),
completions as (
  select
    count(*) filter (where job.queue = %(queue)s::text and next_run_at is null) as jobs,
    case
      when (select count(*) from settled) < %(limit)s::integer then %(window)s::float8
      else least(%(window)s::float8, date_part('epoch', now()) - date_part('epoch', min(settled.finished_at)))
    end as seconds
  from settled
  cross join lateral (
    select queue
    from pgflow.jobs
    where id = settled.job_id
    -- Without this the planner may read every partition.
    offset 0
  ) as job
  where settled.finished_at > now() - %(window)s::float8 * interval '1 second'
)
select
  arrivals.jobs / greatest(arrivals.seconds, 0.001) as arrivals_per_second,
  completions.jobs / greatest(coalesce(completions.seconds, 0), 0.001) as completions_per_second,
  arrivals.jobs + completions.jobs as samples,
  least(arrivals.seconds, coalesce(completions.seconds, arrivals.seconds)) as "window"
from arrivals
cross join completions
