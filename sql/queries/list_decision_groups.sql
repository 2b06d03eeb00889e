-- What guards refused and policies held back: a row for each queue and reason, the most frequent first.
with
-- include: decisions
select
  kind, queue, reason_code, sum(count)::bigint as count, count(*) as minutes,
  min(first_at) as first_at, max(last_at) as last_at,
  (array_agg(sample_job_id::text order by minute desc) filter (where sample_job_id is not null))[1] as sample_job_id
from chosen
group by kind, queue, reason_code
order by sum(count) desc, kind, queue, reason_code
limit %(limit)s::integer
