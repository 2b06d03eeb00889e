-- The evidence about a dead letter whose job's row cannot be read: the columns of the dead letter, and the time in the
-- id.
select
  to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as as_of,
  dead.job_id::text as job_id,
  dead.queue,
  dead.job_type,
  'dlq' as status,
  0::smallint as priority,
  0 as max_attempts,
  dead.attempt_no,
  to_char(born.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
  to_char(born.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as run_at,
  date_part('epoch', born.at) - date_part('epoch', now()) as due_in,
  null::integer as rank,
  null::text as replay_of_job_id,
  dead.error_code as last_error_code,
  dead.error_message as last_error_message,
  dead.dlq_reason_code,
  dead.error_fingerprint as fingerprint,
  advice.suggested_action,
  dead.attempt_no::bigint as attempts,
  dead.failed_attempts::bigint as failed_attempts,
  0::bigint as lost_attempts,
  null::text as worker_name,
  null::text as lease_expires_at,
  null::float8 as lease_expires_in,
  to_char(dead.died_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as dlq_at,
  to_char(dead.resolved_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as resolved_at,
  dead.resolution,
  dead.replay_job_id::text as replay_job_id,
  null::text as canceled_at,
  null::text as canceled_by,
  null::text as cancel_note,
  null::text as leased_at,
  null::float8 as held_for,
  null::text as done,
  null::text as total,
  to_char(dead.died_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ended_at,
  array_remove(array[dead.action_id], null) as action_ids
from pgflow.dead_letters as dead
left join pgflow.error_codes as advice on advice.code = dead.error_code
cross join lateral (
  select to_timestamp(('x' || left(replace(dead.job_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) as at
) as born
where dead.job_id = %(job_id)s::uuid
  and dead.dlq_reason_code = 'UNREADABLE'
