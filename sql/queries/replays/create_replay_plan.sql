-- Make a plan of replays that freezes which jobs it is about, in the order given, and how each was resolved so far.
with plan as (
  insert into pgflow.replay_plans (
    next_run_at, action_id, seconds_apart, canary_seconds, canary, canary_state, batch_size, max_payload_bytes,
    max_attempts, priority, to_queue, again, any_status, runner, patch, selected
  )
  select
    coalesce(%(run_at)s::timestamptz, now() + %(delay)s::float8 * interval '1 second'), %(action_id)s::bigint,
    %(seconds_apart)s::float8, %(canary_seconds)s::float8, %(canary)s::integer,
    case when %(canary)s::integer > 0 then 'waiting' end, %(batch_size)s::integer, %(max_payload_bytes)s::integer,
    %(max_attempts)s::integer, %(priority)s::smallint, %(to_queue)s::text, %(again)s::boolean,
    %(any_status)s::boolean, %(runner)s::text, %(patch)s::jsonb, cardinality(%(job_ids)s::uuid[])
  returning id
),
items as (
  insert into pgflow.replay_items (
    plan_id, place, source_job_id, prior_job_id, prior_resolved_at, prior_resolution
  )
  select
    plan.id, wanted.place, wanted.id, coalesce(dead.replay_job_id, earlier.new_job_id), dead.resolved_at,
    dead.resolution
  from plan
  cross join unnest(%(job_ids)s::uuid[]) with ordinality as wanted (id, place)
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
)
select id as plan_id
from plan
