-- Jobs that run: leased last first, or with `slow` the longest first; with `stuck` only those whose lease has run out.
with looked as materialized (
  select leases.leased_at as at, entry.job_id as id
  from pgflow.leases
  cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
  where (%(queues)s::text[] is null or leases.queue = any(%(queues)s::text[]))
    and (not %(stuck)s::boolean or leases.expires_at < now())
    and leases.leased_at >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
    and leases.leased_at < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval, 'infinity')
    and case
      when %(after_id)s::uuid is null then true
      when %(slow)s::boolean then (leases.leased_at, entry.job_id) > (%(after_at)s::timestamptz, %(after_id)s::uuid)
      else (leases.leased_at, entry.job_id) < (%(after_at)s::timestamptz, %(after_id)s::uuid)
    end
  order by
    case when %(slow)s::boolean then leases.leased_at end,
    case when %(slow)s::boolean then entry.job_id end,
    leases.leased_at desc,
    entry.job_id desc
  limit %(most)s::integer
),
-- include: listed_jobs
