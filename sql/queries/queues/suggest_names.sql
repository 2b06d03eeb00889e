-- Names and ids of a kind with a short description, for shell completion; the most likely first.
select value, about
from (
  (
    select queue as value, '' as about, 0 as place, null::timestamptz as at
    from pgflow.places
    where %(kind)s::text = 'queue'
    group by queue
  )
  union all
  (
    select distinct job_type, '', 0, null::timestamptz
    from pgflow.workers
    cross join lateral unnest(job_types) as known (job_type)
    where %(kind)s::text = 'job_type'
  )
  union
  -- Without a live worker: the types of the latest dead letters.
  (
    select distinct job_type, '', 0, null::timestamptz
    from (
      select job_type
      from pgflow.dead_letters
      where resolved_at is null
        and %(kind)s::text = 'job_type'
      order by died_at desc, job_id desc
      limit 1000
    ) as latest
  )
  union all
  (
    select name, host, 0, null::timestamptz
    from pgflow.workers
    where %(kind)s::text = 'worker'
    group by name, host
  )
  union all
  (
    select id::text, concat(selected, ' jobs, ', case when ended_at is null then 'open' else 'ended' end), 0, created_at
    from pgflow.replay_plans
    where %(kind)s::text = 'plan'
    order by created_at desc, id desc
    limit %(limit)s::integer
  )
  union all
  -- Ids by their end, as screens show them: dead letters first, then what runs.
  (
    select right(job_id::text, 8), concat('dlq ', job_type), 0, died_at
    from pgflow.dead_letters
    where resolved_at is null
      and %(kind)s::text = 'job_id'
    order by died_at desc, job_id desc
    limit %(limit)s::integer
  )
  union all
  (
    select right(entry.job_id::text, 8), concat('running ', leases.queue), 1, leases.leased_at
    from pgflow.leases
    cross join lateral unnest(leases.job_ids) as entry (job_id)
    where %(kind)s::text = 'job_id'
    limit %(limit)s::integer
  )
) as known
order by place, at desc, value
limit %(limit)s::integer
