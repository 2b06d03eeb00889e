-- Every counter, summed over all supervisors; the series counted first comes first.
select
  metric, queue, job_type, outcome, code, sum(count)::bigint as count, sum(seconds) as seconds,
  -- Tested first, because the function is slow and most series have no buckets.
  pgflow.sum_buckets(buckets) filter (where buckets is not null) as buckets
from (
  select metric, queue, job_type, outcome, code, count, seconds, buckets, first_at
  from pgflow.worker_counters
  where metric <> 'flushes'
  union all
  -- Pruned decisions are counters already.
  select 'ingest_decisions', queue, '', '', reason_code, count, 0, null, first_at
  from pgflow.ingest_decisions
  union all
  select 'policy_decisions', queue, '', '', reason_code, count, 0, null, first_at
  from pgflow.policy_decisions
) as counted
group by metric, queue, job_type, outcome, code
order by min(first_at), metric, queue, job_type, outcome, code
limit %(limit)s::integer
