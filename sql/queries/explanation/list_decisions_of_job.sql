-- The newest policy decisions about a job's queue while the job was due and not running, the earliest first.
select
  id,
  to_char(first_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as first_at,
  to_char(last_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as last_at,
  count,
  decision,
  reason_code,
  details_json
from (
  select
    decision.id, decision.first_at, decision.last_at, decision.count, decision.decision, decision.reason_code,
    decision.details_json
  from pgflow.policy_decisions as decision
  -- The attempt before it has the time at which the job was due again.
  left join lateral (
    select next_run_at
    from pgflow.job_attempts
    where job_id = %(job_id)s::uuid
      and finished_at <= decision.last_at
    order by attempt_no desc
    limit 1
  ) as earlier on true
  where decision.queue = %(queue)s::text
    and decision.minute >= date_trunc('minute', %(since)s::timestamptz)
    and decision.first_at <= coalesce(%(until)s::timestamptz, now())
    and decision.last_at >= coalesce(earlier.next_run_at, %(run_at)s::timestamptz)
    and not exists (
      select
      from (select %(job_id)s::uuid as id) as wanted
      cross join lateral (
        -- include: attempts_of_job
      ) as running
      where running.started_at <= decision.first_at
        and running.finished_at >= decision.last_at
    )
  order by decision.first_at desc
  limit %(limit)s::integer
) as newest
order by newest.first_at, newest.id
