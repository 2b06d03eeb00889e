-- Enqueue up to 1,000 jobs through the gate: one document, because arrays through unnest take twice as long.
-- The ids come back as text: a client would make an object of each.
--
-- It also runs over the caller's connection, whose search_path may be anything: every name is qualified.
select pgflow.enqueue_many(
  %(jobs)s::pg_catalog.jsonb,
  job_type => %(job_type)s::pg_catalog.text,
  queue => %(queue)s::pg_catalog.text,
  priority => %(priority)s::integer,
  max_attempts => %(max_attempts)s::integer,
  run_at => %(run_at)s::pg_catalog.timestamptz,
  delay => %(delay)s::pg_catalog.float8 operator(pg_catalog.*) interval '1 second',
  job_timeout => %(job_timeout)s::pg_catalog.float8 operator(pg_catalog.*) interval '1 second',
  meta => %(meta)s::pg_catalog.jsonb,
  job_ids => %(job_ids)s::pg_catalog.text::pg_catalog.uuid[],
  max_payload_bytes => %(max_payload_bytes)s::integer,
  max_enqueue_per_minute => %(max_enqueue_per_minute)s::integer
)::pg_catalog.text as job_ids
