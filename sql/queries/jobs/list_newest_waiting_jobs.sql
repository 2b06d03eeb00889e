-- Jobs that wait, newest first by the time in their id: those that are due, or those of the future.
with few as materialized (
  select entry.job_id
  from pgflow.places as ranks
  cross join lateral (
    select pending.job_id
    from pgflow.pending
    where pending.queue = ranks.queue
      and pending.rank = ranks.rank
      and pending.run_at <= case when %(due)s::boolean then now() else 'infinity' end
      and pending.run_at > case when %(due)s::boolean then '-infinity' else now() end
      and (%(job_types)s::text[] is null or pending.job_type = any(%(job_types)s::text[]))
      and pending.job_id >=
-- include: since_id
      and pending.job_id <
-- include: until_id
      and pending.job_id < coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    -- In the index's order, and no more than a number that the planner does not know: it then expects to read a tenth
    -- of the queue. Otherwise it may read every queue's jobs, from end to end, for the few of this one.
    order by pending.queue, pending.rank, pending.run_at, pending.job_id
    limit (select %(sorted)s::integer + 1)
  ) as entry
  where %(queues)s::text[] is null
    or ranks.queue = any(%(queues)s::text[])
  limit %(sorted)s::integer + 1
),
depth as materialized (
  select count(*) as jobs
  from few
),
looked as materialized (
  (
    select null::timestamptz as at, few.job_id as id
    from few
    where (select jobs from depth) <= %(sorted)s::integer
    order by few.job_id desc
    limit %(most)s::integer
  )
  union all
  -- If too many wait to be sorted, the newest jobs mostly wait: the scan by id finds them.
  (
    select null, jobs.id
    from pgflow.jobs
    where (select depth.jobs from depth) > %(sorted)s::integer
      and jobs.id >=
-- include: since_id
      and jobs.id <
-- include: until_id
      and jobs.id < coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by jobs.id desc
    limit %(most)s::integer
  )
),
-- include: listed_jobs
