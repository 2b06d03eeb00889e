-- Fold the counters of supervisors that are gone into those of supervisor 0, so that sums never fall.
with gone as materialized (
  select ctid
  from pgflow.worker_counters as counter
  where supervisor_id <> '00000000-0000-0000-0000-000000000000'
    and not exists (
      select from pgflow.workers
      where workers.supervisor_id = counter.supervisor_id
    )
    -- A supervisor that starts or stops may have no process now; folding its counters is harmless, but useless.
    and not exists (
      select from pgflow.worker_counters as latest
      where latest.supervisor_id = counter.supervisor_id
        and latest.first_at > now() - interval '1 minute'
    )
  order by metric, queue, job_type, outcome, code, supervisor_id
  limit %(limit)s::integer
  -- Locked rows are skipped: another session folds them.
  for update skip locked
),
taken as (
  delete from pgflow.worker_counters
  where ctid = any(array(select ctid from gone))
  returning metric, queue, job_type, outcome, code, count, seconds, buckets, first_at
)
insert into pgflow.worker_counters as counter (
  supervisor_id, metric, queue, job_type, outcome, code, count, seconds, buckets, first_at
)
select
  '00000000-0000-0000-0000-000000000000', metric, queue, job_type, outcome, code,
  sum(count), sum(seconds), pgflow.sum_buckets(buckets), min(first_at)
from taken
where metric <> 'flushes'
group by metric, queue, job_type, outcome, code
order by metric, queue, job_type, outcome, code
on conflict (metric, queue, job_type, outcome, code, supervisor_id) do update
set count = counter.count + excluded.count,
    seconds = counter.seconds + excluded.seconds,
    buckets = pgflow.add_buckets(counter.buckets, excluded.buckets),
    first_at = least(counter.first_at, excluded.first_at)
