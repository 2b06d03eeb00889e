-- Jobs that run for over ten times what nearly all of their type take, and for ten seconds at least.
with running as materialized (
  select
    entry.job_id, held.queue, held.worker_name,
    date_part('epoch', now()) - date_part('epoch', held.leased_at) as seconds
  from (
    select queue, worker_name, leased_at, job_ids, attempt_nos
    from pgflow.leases
    where leased_at < now() - interval '10 seconds'
    order by leased_at
    limit 200
  ) as held
  cross join lateral unnest(held.job_ids, held.attempt_nos) as entry (job_id, attempt_no)
),
typed as materialized (
  select running.job_id, running.queue, running.worker_name, running.seconds, job.job_type
  from running
  cross join lateral (
    select job_type
    from pgflow.jobs
    where id = running.job_id
    offset 0
  ) as job
),
-- The newest of a day, by their key: partitions before it are not opened, and nothing is sorted.
recent as materialized (
  select entry.job_id, entry.started_ago - entry.ended_ago as seconds
  from (
    select job_ids, started_ago, ended_ago
    from pgflow.job_successes
    where day >= (date_part('epoch', now() - interval '1 day') / 86400)::integer
      and exists (select from typed)
    order by day desc, first_id desc
    limit 5000
  ) as success
  cross join lateral unnest(success.job_ids, success.started_ago, success.ended_ago)
    as entry (job_id, started_ago, ended_ago)
  limit 5000
),
usual as (
  select job.job_type, percentile_cont(0.99) within group (order by recent.seconds) as p99_seconds
  from recent
  cross join lateral (
    select job_type
    from pgflow.jobs
    where id = recent.job_id
    offset 0
  ) as job
  group by job.job_type
  -- Fewer say nothing about what is usual.
  having count(*) >= 20
)
select
  typed.job_id::text as job_id, typed.queue, typed.job_type, typed.worker_name, typed.seconds, usual.p99_seconds
from typed
join usual using (job_type)
where typed.seconds > 10 * usual.p99_seconds
order by typed.seconds desc, typed.job_id
limit 50
