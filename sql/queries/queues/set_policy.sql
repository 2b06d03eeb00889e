-- Set limits of a queue: those that are named; a null removes one.
insert into pgflow.queue_policies (
  queue, max_in_flight, max_attempts_per_minute, throttle_delay_ms, max_payload_bytes, max_enqueue_per_minute,
  updated_by
)
select
  %(queue)s::text, given.max_in_flight, given.max_attempts_per_minute, given.throttle_delay_ms,
  given.max_payload_bytes, given.max_enqueue_per_minute, %(actor)s::text
from jsonb_to_record(%(limits)s::jsonb) as given (
  max_in_flight integer, max_attempts_per_minute integer, throttle_delay_ms integer, max_payload_bytes integer,
  max_enqueue_per_minute integer
)
on conflict (queue) do update
set max_in_flight = case
      when %(limits)s::jsonb ? 'max_in_flight' then excluded.max_in_flight else queue_policies.max_in_flight
    end,
    max_attempts_per_minute = case
      when %(limits)s::jsonb ? 'max_attempts_per_minute' then excluded.max_attempts_per_minute
      else queue_policies.max_attempts_per_minute
    end,
    throttle_delay_ms = case
      when %(limits)s::jsonb ? 'throttle_delay_ms' then excluded.throttle_delay_ms
      else queue_policies.throttle_delay_ms
    end,
    max_payload_bytes = case
      when %(limits)s::jsonb ? 'max_payload_bytes' then excluded.max_payload_bytes
      else queue_policies.max_payload_bytes
    end,
    max_enqueue_per_minute = case
      when %(limits)s::jsonb ? 'max_enqueue_per_minute' then excluded.max_enqueue_per_minute
      else queue_policies.max_enqueue_per_minute
    end,
    -- The throttle ends: the next lease decides by the new limits.
    throttled_until = null,
    updated_at = now(),
    updated_by = excluded.updated_by
