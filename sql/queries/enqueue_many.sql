-- Enqueue up to 1,000 jobs through the gate: one document, because arrays through unnest take twice as long.
-- The ids come back as text: a client would make an object of each.
select pgflow.enqueue_many(
  %(jobs)s::jsonb,
  job_type => %(job_type)s::text,
  queue => %(queue)s::text,
  priority => %(priority)s::integer,
  max_attempts => %(max_attempts)s::integer,
  run_at => %(run_at)s::timestamptz,
  delay => %(delay)s::float8 * interval '1 second',
  job_timeout => %(job_timeout)s::float8 * interval '1 second',
  meta => %(meta)s::jsonb,
  job_ids => %(job_ids)s::text::uuid[],
  max_payload_bytes => %(max_payload_bytes)s::integer,
  max_enqueue_per_minute => %(max_enqueue_per_minute)s::integer
)::text as job_ids
