-- Count what an acceptance would touch: jobs that a worker held which nobody has heard of since the fence was raised.
with interrupted as (
  select leases.lease_id, leases.job_ids, leases.attempt_nos
  from pgflow.leases
  where not exists (
    select from pgflow.workers
    where workers.worker_id = leases.worker_id
      and workers.last_heartbeat > (select fenced_at from pgflow.database_identity)
  )
)
select
  (
    select count(*)
    from interrupted
    cross join lateral unnest(interrupted.job_ids, interrupted.attempt_nos) as entry (job_id, attempt_no)
    where not exists (
      select from pgflow.job_attempts
      where job_attempts.job_id = entry.job_id
        and job_attempts.attempt_no = entry.attempt_no
    )
  ) as jobs,
  (select count(distinct queue) from pgflow.queue_ranks) as queues,
  (
    select count(*)
    from pgflow.workers
    where last_heartbeat > (select fenced_at from pgflow.database_identity)
  ) as live_workers
