-- The states of given jobs, in the order given; of dead letters, how they were resolved. Null: there is no such job.
select
  wanted.id::text as job_id,
  coalesce(dead.state, other.status) as state,
  case when dead.state = 'replayed' then dead.replay_job_id else earlier.new_job_id end::text as replay_job_id,
  coalesce(dead.unreadable, false) as unreadable
from unnest(%(job_ids)s::uuid[]) with ordinality as wanted (id, place)
left join lateral (
  select coalesce(resolution, 'open') as state, replay_job_id,
    -- Its row may have been restored since.
    case when dlq_reason_code = 'UNREADABLE' then pgflow.why_unreadable(job_id) is not null end as unreadable
  from pgflow.dead_letters
  where job_id = wanted.id
  offset 0
) as dead on true
left join lateral (
  select status
  from pgflow.job_overview
  where id = wanted.id
    and dead.state is null
  offset 0
) as other on true
-- Only a dead letter knows its replay; of other jobs, plans do.
left join lateral (
  select new_job_id
  from pgflow.replay_items
  where source_job_id = wanted.id
    and state = 'created'
    and dead.state is null
  order by plan_id desc
  limit 1
) as earlier on true
order by wanted.place
