-- Record which pauses hold back jobs that are due: once a minute for each queue, by the first worker that comes.
insert into pgflow.policy_decisions (queue, decision, reason_code, minute, count, sample_job_id, details_json)
select
  policy.queue, 'HELD', 'QUEUE_PAUSED', date_trunc('minute', now()), held.jobs, held.sample_job_id,
  jsonb_strip_nulls(jsonb_build_object(
    'paused_by', policy.paused_by,
    'paused_until', case when isfinite(policy.paused_until) then policy.paused_until end,
    'note', policy.pause_note
  ))
from pgflow.queue_policies as policy
join pgflow.queue_gates as gate using (queue)
cross join lateral (
  select count(*) as jobs, (array_agg(due.job_id order by due.rank, due.run_at))[1] as sample_job_id
  from (
    select ranks.rank, entry.run_at, entry.job_id
    from pgflow.places as ranks
    cross join lateral (
      select pending.run_at, pending.job_id
      from pgflow.pending
      where pending.queue = ranks.queue
        and pending.rank = ranks.rank
        and pending.run_at <= now()
      order by pending.queue, pending.rank, pending.run_at, pending.job_id
      limit %(limit)s::integer
    ) as entry
    where ranks.queue = policy.queue
    order by ranks.rank
    limit %(limit)s::integer
  ) as due
) as held
where gate.paused
  and held.jobs > 0
order by policy.queue
on conflict (queue, reason_code, minute) do nothing
