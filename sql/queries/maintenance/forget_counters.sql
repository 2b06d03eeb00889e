-- Add the counters of forgotten queues to those of `other`, so that sums never fall.
with taken as (
  delete from pgflow.worker_counters
  where queue = any(%(queues)s::text[])
  returning metric, job_type, outcome, code, count, seconds, buckets, first_at
)
insert into pgflow.worker_counters as counter (
  supervisor_id, metric, queue, job_type, outcome, code, count, seconds, buckets, first_at
)
select
  '00000000-0000-0000-0000-000000000000', metric, 'other', case when job_type = '' then '' else 'other' end, outcome,
  code, sum(count), sum(seconds), pgflow.sum_buckets(buckets), min(first_at)
from taken
group by metric, case when job_type = '' then '' else 'other' end, outcome, code
order by metric, case when job_type = '' then '' else 'other' end, outcome, code
on conflict (metric, queue, job_type, outcome, code, supervisor_id) do update
set count = counter.count + excluded.count,
    seconds = counter.seconds + excluded.seconds,
    buckets = pgflow.add_buckets(counter.buckets, excluded.buckets),
    first_at = least(counter.first_at, excluded.first_at)
