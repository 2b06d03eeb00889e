-- Decisions of both kinds since a time.
decisions as (
  select
    id, 'policy' as kind, queue, decision, reason_code, count, minute, first_at, last_at, sample_job_id, details_json
  from pgflow.policy_decisions
  where 'policy' = any(%(kinds)s::text[])
  union all
  select
    id, 'ingest', queue, decision, reason_code, count, minute, first_at, last_at, null, details_json
  from pgflow.ingest_decisions
  where 'ingest' = any(%(kinds)s::text[])
),
chosen as (
  select
    id, kind, queue, decision, reason_code, count, minute, first_at, last_at, sample_job_id, details_json
  from decisions
  -- By the minute, which has the index: its rows are counted whole.
  where minute >= date_trunc('minute', coalesce(
      %(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity'
    ))
    and minute < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval, 'infinity')
    and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
    and (%(reasons)s::text[] is null or reason_code = any(%(reasons)s::text[]))
)
