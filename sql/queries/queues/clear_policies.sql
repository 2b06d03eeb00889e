-- Remove every limit of queues; a pause stays.
update pgflow.queue_policies
set max_in_flight = null,
    max_attempts_per_minute = null,
    throttle_delay_ms = null,
    max_payload_bytes = null,
    max_enqueue_per_minute = null,
    throttled_until = null,
    updated_at = now(),
    updated_by = %(actor)s::text
where queue = any(%(queues)s::text[])
