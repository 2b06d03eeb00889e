-- End leases that are locked: record the attempts they held, and send their jobs back, bury them or cancel them.
with ended as (
  delete from pgflow.leases
  where lease_id = any(%(lease_ids)s::uuid[])
  returning lease_id, batch_id, leased_at, worker_name, job_ids, attempt_nos
),
unsettled as materialized (
  select ended.lease_id, ended.batch_id, ended.leased_at, ended.worker_name, entry.job_id, entry.attempt_no,
    -- Null if unknown: then all jobs count as started.
    %(started)s::uuid[] is null or (entry.job_id, entry.attempt_no) in (
      select job_id, attempt_no
      from unnest(%(started)s::uuid[], %(started_nos)s::integer[]) as begun (job_id, attempt_no)
    ) as started
  from ended
  cross join lateral unnest(ended.job_ids, ended.attempt_nos) as entry (job_id, attempt_no)
),
judged as materialized (
  select
    unsettled.lease_id, unsettled.leased_at, unsettled.worker_name, unsettled.job_id, unsettled.attempt_no,
    unsettled.started, job.queue, job.job_type, coalesce(moved.rank, -job.priority) as rank, history.failed,
    -- Where an operator put the job since the attempt before this one; else where that one did; else its producer.
    coalesce(
      case when moved.attempt_no = unsettled.attempt_no - 1 then moved.run_at end, history.next_run_at, job.run_at
    ) as run_at,
    %(bury_as)s::text is not null or (suspicion.spent and not suspicion.waited) as condemned,
    suspicion.spent and suspicion.waited as spared,
    -- Of jobs that are not condemned: an operator who cancels a lease decides about all of these.
    %(canceled_by)s::text is not null as canceled
  from unsettled
  cross join lateral (
    select queue, job_type, priority, run_at
    from pgflow.jobs
    where id = unsettled.job_id
    offset 0
  ) as job
  cross join lateral (
    select
      count(*) filter (where status = 'failed') as failed,
      -- Counted as by the lease: since the last attempt that ended.
      count(*) filter (where status = 'lost' and attempt_no > last_ended) as lost,
      count(*) filter (where status = 'released' and error_code = 'WORKER_LOST' and attempt_no > last_ended) as spared,
      max(next_run_at) filter (where attempt_no = unsettled.attempt_no - 1) as next_run_at
    from (
      select
        status, attempt_no, next_run_at, error_code,
        coalesce(max(attempt_no) filter (where status in ('failed', 'snoozed')) over (), 0) as last_ended
      from pgflow.job_attempts
      where job_id = unsettled.job_id
    ) as attempt
  ) as history
  cross join lateral (
    select
      %(status)s::text = 'lost' and history.lost + 1 >= %(crash_budget)s::integer as spent,
      -- The last attempt of the budget runs apart, in a batch that is named after its job. In any other lease the job
      -- has only waited for that, and has not ended its worker. Not for ever: a worker whose budget is larger than ours
      -- does run it there. With a budget of one, all jobs run alone and none apart.
      %(started)s::uuid[] is null
        and unsettled.batch_id <> unsettled.job_id
        and %(crash_budget)s::integer > 1
        and history.spared < %(crash_budget)s::integer as waited
  ) as suspicion
  left join lateral (
    select rank, run_at, attempt_no
    from pgflow.moved_jobs
    where job_id = unsettled.job_id
    offset 0
  ) as moved on true
),
recorded as (
  insert into pgflow.job_attempts (
    job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status, worker_name, error_code, error_message
  )
  select
    job_id, lease_id, leased_at,
    -- A lease may be later than this transaction's now().
    greatest(leased_at, now()), case when not (condemned or canceled) then now() end,
    attempt_no, case when spared then 'released' else %(status)s::text end, worker_name,
    %(error_code)s::text, %(error_message)s::text
  from judged
  where started
  on conflict (job_id, attempt_no) do nothing
  returning job_id
),
returned as (
  insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no, job_type)
  select
    queue, rank, case when started then now() else run_at end, job_id,
    -- A job that had not started keeps its number.
    case when started then attempt_no else attempt_no - 1 end, job_type
  from judged
  where not started
    or (not (condemned or canceled) and job_id in (select job_id from recorded))
),
buried as (
  insert into pgflow.dead_letters (
    job_id, attempt_no, failed_attempts, queue, job_type, dlq_reason_code, error_code, error_message
  )
  select
    job_id, attempt_no, failed, queue, job_type, coalesce(%(bury_as)s::text, 'CRASH_LOOP'),
    %(error_code)s::text, %(error_message)s::text
  from judged
  where condemned
    and job_id in (select job_id from recorded)
),
canceled as (
  insert into pgflow.canceled_jobs (job_id, queue, canceled_by, note)
  select job_id, queue, %(canceled_by)s::text, %(error_message)s::text
  from judged
  where canceled
    and job_id in (select job_id from recorded)
)
select job_id::text, queue, job_type, attempt_no, worker_name, started, started and condemned as dead_lettered
from judged
order by job_id
