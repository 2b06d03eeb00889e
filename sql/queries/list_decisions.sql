-- What guards refused and policies held back: a row for each queue, reason and minute, the latest first.
with
-- include: decisions
select
  id, kind, queue, decision, reason_code, count, minute, first_at as created_at, last_at,
  sample_job_id::text as sample_job_id, details_json
from chosen
where %(after_at)s::timestamptz is null
  or (
    minute <= %(after_at)s::timestamptz
    and (minute, kind, id) < (%(after_at)s::timestamptz, %(after_kind)s::text, %(after_number)s::bigint)
  )
order by minute desc, kind desc, id desc
limit %(limit)s::integer
