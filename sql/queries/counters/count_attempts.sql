-- Count attempts that were written for a worker process and not by it, and leases that ran out: in their transaction.
with settled as materialized (
  select
    job.queue, job.job_type, coalesce(attempt.error_code, '') as code, attempt.attempt_no > 1 as again,
    case
      when attempt.status not in ('failed', 'lost') then attempt.status
      when attempt.next_run_at is null then 'dlq'
      when attempt.status = 'failed' then 'retried'
      else 'lost'
    end as outcome
  from unnest(%(job_ids)s::uuid[], %(attempt_nos)s::integer[]) as named (job_id, attempt_no)
  join pgflow.job_attempts as attempt using (job_id, attempt_no)
  cross join lateral (
    select queue, job_type
    from pgflow.jobs
    where id = named.job_id
    -- Without this the planner may hash-join, and read every partition.
    offset 0
  ) as job
),
counted as (
  insert into pgflow.worker_counters as counter (supervisor_id, metric, queue, job_type, outcome, code, count)
  select '00000000-0000-0000-0000-000000000000', metric, queue, job_type, outcome, code, count(*)
  from (
    select 'attempts' as metric, queue, job_type, outcome, code
    from settled
    union all
    select 'leases_expired', queue, '', '', ''
    from unnest(%(expired)s::text[]) as lease (queue)
  ) as every
  group by metric, queue, job_type, outcome, code
  -- Every reaper writes these rows, in one order, so that two cannot deadlock.
  order by metric, queue, job_type, outcome, code
  on conflict (metric, queue, job_type, outcome, code, supervisor_id) do update
  set count = counter.count + excluded.count
)
insert into pgflow.queue_rates as rate (queue, since, retried, dlq, released, lost, canceled, again)
select
  queue, date_bin('10 seconds', now(), '2000-01-01 00:00:00+00'),
  count(*) filter (where outcome = 'retried'), count(*) filter (where outcome = 'dlq'),
  count(*) filter (where outcome = 'released'), count(*) filter (where outcome = 'lost'),
  count(*) filter (where outcome = 'canceled'), count(*) filter (where again)
from settled
group by queue
order by queue
on conflict (queue, since) do update
set retried = rate.retried + excluded.retried,
    dlq = rate.dlq + excluded.dlq,
    released = rate.released + excluded.released,
    lost = rate.lost + excluded.lost,
    canceled = rate.canceled + excluded.canceled,
    again = rate.again + excluded.again
