-- Jobs that run, newest first by the time in their id.
with looked as materialized (
  select null::timestamptz as at, entry.job_id as id
  from pgflow.leases
  cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
  where (%(queues)s::text[] is null or leases.queue = any(%(queues)s::text[]))
    and entry.job_id >=
-- include: since_id
    and entry.job_id <
-- include: until_id
    and entry.job_id < coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  order by entry.job_id desc
  limit %(most)s::integer
),
-- include: listed_jobs
