-- The states of the jobs that a plan has created.
cross join lateral (
  select
    count(*) as jobs,
    count(*) filter (where ended.status = 'succeeded') as succeeded,
    count(*) filter (where ended.status = 'dlq') as dead,
    count(*) filter (where ended.status = 'canceled') as canceled
  from (
    select new_job_id as id
    from pgflow.replay_items
    where plan_id = plan.id
      and state = 'created'
  ) as wanted
  cross join lateral (
    -- include: outcome
  ) as ended
) as ended
cross join lateral (
  select count(*) as jobs
  from pgflow.leases
  cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
  join pgflow.replay_items as item
    on item.plan_id = plan.id
    and item.new_job_id = entry.job_id
    and item.state = 'created'
) as running
