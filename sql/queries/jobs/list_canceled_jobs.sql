-- Jobs that were canceled, the latest first.
with looked as materialized (
  select canceled_at as at, job_id as id
  from pgflow.canceled_jobs
  where canceled_at >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
    and canceled_at < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval, 'infinity')
    and (canceled_at, job_id) < (
      coalesce(%(after_at)s::timestamptz, 'infinity'),
      coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    )
    and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
  order by canceled_at desc, job_id desc
  limit %(most)s::integer
),
-- include: listed_jobs
