-- Unresolved dead letters as jobs, the latest death first.
with looked as materialized (
  select died_at as at, job_id as id
  from pgflow.dead_letters
  where resolved_at is null
    and died_at >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
    and died_at < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval, 'infinity')
    and (died_at, job_id) < (
      coalesce(%(after_at)s::timestamptz, 'infinity'),
      coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    )
    and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
    and (%(job_types)s::text[] is null or job_type = any(%(job_types)s::text[]))
    and (%(error_codes)s::text[] is null or error_code = any(%(error_codes)s::text[]))
    and (%(reasons)s::text[] is null or dlq_reason_code = any(%(reasons)s::text[]))
    and (%(fingerprints)s::text[] is null or error_fingerprint = any(%(fingerprints)s::text[]))
  order by died_at desc, job_id desc
  limit %(most)s::integer
),
-- include: listed_jobs
