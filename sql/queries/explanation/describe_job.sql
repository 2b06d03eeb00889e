-- Everything that explains one job but its attempts; no row if there is no such job.
--
-- Instants are text and lengths of time are seconds, both by the database's clock: either may be infinite.
select
  to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as as_of,
  job.id::text as job_id,
  job.queue,
  job.job_type,
  job.status,
  job.priority,
  job.max_attempts,
  job.attempt_no,
  coalesce(
    to_char(job.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), job.created_at::text
  ) as created_at,
  coalesce(
    to_char(job.run_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), job.run_at::text
  ) as run_at,
  date_part('epoch', job.run_at) - date_part('epoch', now()) as due_in,
  waiting.rank,
  job.replay_of_job_id::text as replay_of_job_id,
  job.last_error_code,
  job.last_error_message,
  job.dlq_reason_code,
  job.fingerprint,
  advice.suggested_action,
  history.attempts,
  history.failed_attempts,
  history.lost_attempts,
  job.worker_id as worker_name,
  to_char(job.lease_expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as lease_expires_at,
  date_part('epoch', job.lease_expires_at) - date_part('epoch', now()) as lease_expires_in,
  to_char(job.dlq_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as dlq_at,
  to_char(job.resolved_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as resolved_at,
  dead.resolution,
  dead.replay_job_id::text as replay_job_id,
  to_char(canceled.canceled_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as canceled_at,
  canceled.canceled_by,
  canceled.note as cancel_note,
  date_part('epoch', now()) - date_part('epoch', held.leased_at) as held_for,
  to_char(held.leased_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as leased_at,
  held.done,
  held.total,
  to_char(coalesce(
    dead.died_at, canceled.canceled_at, case when job.status = 'succeeded' then job.updated_at end
  ) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ended_at,
  array_remove(array[dead.action_id, canceled.action_id], null) as action_ids
from pgflow.job_overview as job
left join pgflow.dead_letters as dead on dead.job_id = job.id
left join pgflow.canceled_jobs as canceled on canceled.job_id = job.id
left join pgflow.error_codes as advice on advice.code = job.last_error_code
-- Its place in the queue: the row of its key, whatever its rank is now.
left join lateral (
  select pending.rank::integer as rank
  from pgflow.places as ranks
  join pgflow.pending
    on pending.queue = ranks.queue
    and pending.rank = ranks.rank
    and pending.run_at = job.run_at
    and pending.job_id = job.id
  where ranks.queue = job.queue
    and job.status in ('queued', 'scheduled')
  limit 1
) as waiting on true
-- The progress that its worker has reported, if it runs.
left join lateral (
  select
    leased_at,
    leases.progress #>> array[job.id::text, '0'] as done,
    leases.progress #>> array[job.id::text, '1'] as total
  from pgflow.leases
  where leases.job_ids @> array[job.id]
    and job.status = 'running'
  order by leased_at desc
  limit 1
) as held on true
cross join lateral (
  select
    count(*) as attempts,
    count(*) filter (where status = 'failed') as failed_attempts,
    count(*) filter (where status = 'lost') as lost_attempts
  from (select job.id) as wanted
  cross join lateral (
    -- include: attempts_of_job
  ) as attempt
) as history
where job.id = %(job_id)s::uuid
-- An id that was enqueued again after its job had been archived, before enqueue looked there, names two: the later one.
order by job.created_at desc
limit 1
