-- The jobs that a statement has just leased, as their worker receives them; no column can fail to decode.
select
  leased.lease_id::text as lease_id, taken.job_id::text as job_id, taken.queue, taken.rank,
  to_char(taken.run_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as run_at,
  taken.attempt_no + 1 as attempt_no, taken.job_type,
  -- An entry without a row in jobs fails the lease, as a row that cannot be read does: then the worker searches for
  -- such jobs.
  case when job.id is null then ('the row of job ' || taken.job_id || ' is gone')::jsonb::text else job.payload end as payload,
  job.max_attempts,
  job.timeout_ms, job.meta, job.replay_of_job_id,
  coalesce(history.failed, 0) as failed_attempts, coalesce(history.lost, 0) as lost_attempts
from taken
join leased using (queue)
left join lateral (
  -- As text: a number or a time that Python cannot represent must fail its own job, not the batch.
  select id, payload::text, meta::text, max_attempts, timeout_ms, replay_of_job_id::text
  from pgflow.jobs
  where id = taken.job_id
  offset 0
) as job on true
left join lateral (
  select
    count(*) filter (where status = 'failed') as failed,
    -- Lost attempts since the last one that ended: a job that has ended without killing its process is no suspect any
    -- more.
    count(*) filter (where status = 'lost' and attempt_no > last_ended) as lost
  from (
    select status, attempt_no, coalesce(max(attempt_no) filter (where status in ('failed', 'snoozed')) over (), 0) as last_ended
    from pgflow.job_attempts
    where job_attempts.job_id = taken.job_id
      -- False for nearly every job: then no partition is opened.
      and taken.attempt_no > 0
  ) as attempt
) as history on true
order by leased.lease_id, taken.rank, taken.run_at, taken.job_id
