-- Decisions by queue and reason, the most frequent first.
select
  queue, kind, reason_code,
  sum(count)::bigint as count,
  min(first_at) as first_at,
  max(last_at) as last_at,
  (array_agg(sample_job_id::text order by last_at desc))[1] as sample_job_id
from (
  select made.queue, 'policy' as kind, made.reason_code, made.count, made.first_at, made.last_at, made.sample_job_id
  from pgflow.policy_decisions as made
  -- include: decision_filter
    and %(kind)s::text in ('all', 'policy')
  union all
  select made.queue, 'ingest', made.reason_code, made.count, made.first_at, made.last_at, null
  from pgflow.ingest_decisions as made
  -- include: decision_filter
    and %(kind)s::text in ('all', 'ingest')
) as every
group by queue, kind, reason_code
order by count desc, queue, kind, reason_code
limit %(limit)s::integer
