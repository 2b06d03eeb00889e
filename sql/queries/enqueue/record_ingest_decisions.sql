-- Count refused enqueues: one row for each queue, reason and minute, however many there were.
--
-- It also runs over connections that are not ours, whose path may find anything first: every name is a full one.
insert into pgflow.ingest_decisions (minute, count, queue, decision, reason_code, details_json)
select
  pg_catalog.date_trunc('minute', pg_catalog.now(), 'UTC'), pg_catalog.sum(refusal.jobs), refusal.queue, 'DENIED',
  refusal.reason_code,
  -- The evidence of one of them; a row that is inserted twice in one statement would be an error.
  (pg_catalog.array_agg(refusal.details))[1]
from pg_catalog.jsonb_to_recordset(%(refusals)s::pg_catalog.jsonb) as refusal (
  queue pg_catalog.text, reason_code pg_catalog.text, jobs bigint, details pg_catalog.jsonb
)
group by refusal.queue, refusal.reason_code
-- Two clients that refuse for several queues lock in one order.
order by refusal.queue, refusal.reason_code
on conflict (queue, reason_code, minute) do update
set count = ingest_decisions.count operator(pg_catalog.+) excluded.count,
    last_at = pg_catalog.now(),
    details_json = excluded.details_json
