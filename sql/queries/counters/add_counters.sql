-- Add what a supervisor has counted since it last did; once, however often it is sent: a reply may be lost.
with fresh as (
  insert into pgflow.worker_counters as counter (supervisor_id, metric, count)
  values (%(supervisor_id)s::uuid, 'flushes', %(number)s::bigint)
  on conflict (metric, queue, job_type, outcome, code, supervisor_id) do update
  set count = excluded.count
  where counter.count < excluded.count
  returning metric
),
counted as (
  insert into pgflow.worker_counters as counter (
    supervisor_id, metric, queue, job_type, outcome, code, count, seconds, buckets
  )
  select %(supervisor_id)s::uuid, metric, queue, job_type, outcome, code, count, seconds, buckets
  from jsonb_to_recordset(%(counters)s::jsonb) as part (
    metric text, queue text, job_type text, outcome text, code text, count bigint, seconds float8, buckets bigint[]
  )
  where exists (select from fresh)
  on conflict (metric, queue, job_type, outcome, code, supervisor_id) do update
  set count = counter.count + excluded.count,
      seconds = counter.seconds + excluded.seconds,
      buckets = pgflow.add_buckets(counter.buckets, excluded.buckets)
)
insert into pgflow.queue_rates as rate (
  queue, since, succeeded, retried, dlq, snoozed, released, lost, canceled, again, seconds, buckets
)
select
  queue, date_bin('10 seconds', now(), '2000-01-01 00:00:00+00'),
  succeeded, retried, dlq, snoozed, released, lost, canceled, again, seconds, buckets
from jsonb_to_recordset(%(rates)s::jsonb) as part (
  queue text, succeeded bigint, retried bigint, dlq bigint, snoozed bigint, released bigint, lost bigint,
  canceled bigint, again bigint, seconds float8, buckets bigint[]
)
where exists (select from fresh)
-- All supervisors write these rows: in one order, so that none waits for another in a circle.
order by queue
on conflict (queue, since) do update
set succeeded = rate.succeeded + excluded.succeeded,
    retried = rate.retried + excluded.retried,
    dlq = rate.dlq + excluded.dlq,
    snoozed = rate.snoozed + excluded.snoozed,
    released = rate.released + excluded.released,
    lost = rate.lost + excluded.lost,
    canceled = rate.canceled + excluded.canceled,
    again = rate.again + excluded.again,
    seconds = rate.seconds + excluded.seconds,
    buckets = pgflow.add_buckets(rate.buckets, excluded.buckets)
