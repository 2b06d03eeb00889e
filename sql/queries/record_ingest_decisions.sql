-- Count refused enqueues: one row for each queue, reason and minute, however many there were.
insert into pgflow.ingest_decisions (minute, count, queue, decision, reason_code, details_json)
select
  date_trunc('minute', now(), 'UTC'), sum(refusal.jobs), refusal.queue, 'DENIED', refusal.reason_code,
  -- The evidence of one of them; a row that is inserted twice in one statement would be an error.
  (array_agg(refusal.details))[1]
from jsonb_to_recordset(%(refusals)s::jsonb) as refusal (queue text, reason_code text, jobs bigint, details jsonb)
group by refusal.queue, refusal.reason_code
-- Two clients that refuse for several queues lock in one order.
order by refusal.queue, refusal.reason_code
on conflict (queue, reason_code, minute) do update
set count = ingest_decisions.count + excluded.count,
    last_at = now(),
    details_json = excluded.details_json
