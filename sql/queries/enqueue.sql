-- Enqueue one job through the gate; whatever is null takes the gate's default.
select pgflow.enqueue(
  %(job_type)s::text,
  %(payload)s::jsonb,
  queue => %(queue)s::text,
  priority => %(priority)s::integer,
  max_attempts => %(max_attempts)s::integer,
  run_at => %(run_at)s::timestamptz,
  delay => %(delay)s::float8 * interval '1 second',
  job_timeout => %(job_timeout)s::float8 * interval '1 second',
  meta => %(meta)s::jsonb,
  job_id => %(job_id)s::uuid,
  max_payload_bytes => %(max_payload_bytes)s::integer,
  max_enqueue_per_minute => %(max_enqueue_per_minute)s::integer
)::text as job_id
