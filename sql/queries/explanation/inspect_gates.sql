-- The conditions that may keep a whole queue from being leased, by the views that the lease reads; always one row.
select
  coalesce(gate.paused, false) as paused,
  to_char(
    case when gate.paused then coalesce(pause.at, policy.updated_at) end at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
  ) as paused_at,
  to_char(
    case when isfinite(policy.paused_until) then policy.paused_until end at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
  ) as paused_until,
  policy.paused_by,
  policy.pause_note,
  coalesce(gate.limited and gate.throttled, false) as throttled,
  to_char(policy.throttled_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as throttled_until,
  date_part('epoch', policy.throttled_until) - date_part('epoch', now()) as throttled_for,
  throttle.reason_code as throttled_by,
  usage.max_in_flight,
  usage.in_flight,
  usage.max_attempts_per_minute,
  usage.attempts_last_minute,
  to_char(usage.next_free_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as next_free_at,
  date_part('epoch', usage.next_free_at) - date_part('epoch', now()) as next_free_in
from (select %(queue)s::text as queue) as asked
left join pgflow.queue_gates as gate using (queue)
left join pgflow.queue_policies as policy using (queue)
left join pgflow.queue_usage as usage using (queue)
left join lateral (
  select action.at
  from pgflow.operator_actions as action
  -- An action about several queues has them in its details.
  where (action.queue = asked.queue or action.details_json -> 'queues' ? asked.queue)
    and action.action = 'queues.pause'
    and gate.paused
  order by action.at desc
  limit 1
) as pause on true
-- The reason of the present throttle: the latest policy decision.
left join lateral (
  select decision.reason_code
  from pgflow.policy_decisions as decision
  where decision.queue = asked.queue
    and decision.minute > now() - interval '2 hours'
    and decision.decision = 'THROTTLED'
    and gate.throttled
  order by decision.last_at desc
  limit 1
) as throttle on true
