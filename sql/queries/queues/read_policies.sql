-- The policies of queues, locked until the transaction ends; in the order in which every statement locks them.
select
  queue, max_in_flight, max_attempts_per_minute, throttle_delay_ms, max_payload_bytes, max_enqueue_per_minute,
  paused_until::text as paused_until, paused_by, pause_note
from pgflow.queue_policies
where queue = any(%(queues)s::text[])
order by queue
for update
