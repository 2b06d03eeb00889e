-- Policy decisions and ingest decisions, newest first; a row for each queue, reason and minute, of refusals one for
-- each transaction that was open at the same time.
select
  id, kind, minute, last_at, first_at, queue, decision, reason_code, count, sample_job_id::text as sample_job_id,
  details_json
from (
  (
    select
      concat('policy-', made.id) as id, 'policy' as kind, made.minute, made.last_at, made.first_at, made.queue,
      made.decision, made.reason_code, made.count, made.sample_job_id, made.details_json
    from pgflow.policy_decisions as made
    -- include: decision_filter
      and %(kind)s::text in ('all', 'policy')
      and (
        %(after_at)s::timestamptz is null
        or (made.first_at, concat('policy-', made.id) collate "C")
          < (%(after_at)s::timestamptz, %(after_id)s::text collate "C")
      )
      -- The same, for the index: a minute holds what was first decided in it.
      and made.minute <= coalesce(%(after_at)s::timestamptz, 'infinity')
    order by made.minute desc, made.first_at desc, concat('policy-', made.id) collate "C" desc
    limit %(limit)s::integer
  )
  union all
  (
    select
      concat('ingest-', made.id), 'ingest', made.minute, made.last_at, made.first_at, made.queue,
      made.decision, made.reason_code, made.count, null, made.details_json
    from pgflow.ingest_decisions as made
    -- include: decision_filter
      and %(kind)s::text in ('all', 'ingest')
      and (
        %(after_at)s::timestamptz is null
        or (made.first_at, concat('ingest-', made.id) collate "C")
          < (%(after_at)s::timestamptz, %(after_id)s::text collate "C")
      )
      and made.minute <= coalesce(%(after_at)s::timestamptz, 'infinity')
    order by made.minute desc, made.first_at desc, concat('ingest-', made.id) collate "C" desc
    limit %(limit)s::integer
  )
) as every
order by minute desc, first_at desc, id collate "C" desc
limit %(limit)s::integer
