-- Make a plan of replays; which jobs it is about follows in the same transaction, by add_replay_items.
insert into pgflow.replay_plans (
  next_run_at, action_id, seconds_apart, canary_seconds, canary, canary_state, batch_size, max_payload_bytes,
  max_attempts, priority, to_queue, again, any_status, runner, patch, selected
)
select
  coalesce(%(run_at)s::timestamptz, now() + %(delay)s::float8 * interval '1 second'), %(action_id)s::bigint,
  %(seconds_apart)s::float8, %(canary_seconds)s::float8, %(canary)s::integer,
  case when %(canary)s::integer > 0 then 'waiting' end, %(batch_size)s::integer, %(max_payload_bytes)s::integer,
  %(max_attempts)s::integer, %(priority)s::smallint, %(to_queue)s::text, %(again)s::boolean,
  %(any_status)s::boolean, %(runner)s::text, %(patch)s::jsonb, %(selected)s::integer
returning id as plan_id
