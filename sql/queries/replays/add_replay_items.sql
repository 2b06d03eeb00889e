-- Add the next jobs to a replay plan, in the order given, with how each is resolved now.
insert into pgflow.replay_items (
  plan_id, place, source_job_id, prior_job_id, prior_resolved_at, prior_resolution
)
select
  %(plan_id)s::bigint, %(after_place)s::integer + wanted.place, wanted.id,
  coalesce(dead.replay_job_id, earlier.new_job_id), dead.resolved_at, dead.resolution
from unnest(%(job_ids)s::uuid[]) with ordinality as wanted (id, place)
left join pgflow.dead_letters as dead on dead.job_id = wanted.id
left join lateral (
  select new_job_id
  from pgflow.replay_items
  where source_job_id = wanted.id
    and state = 'created'
    and dead.job_id is null
  order by plan_id desc
  limit 1
) as earlier on true
