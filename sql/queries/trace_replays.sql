-- The jobs that a job replays, one before the other, and those that replay it, one after the other; nearest first.
with recursive earlier as (
  select 1 as step, replay_of_job_id as id
  from pgflow.job_overview
  where id = %(job_id)s::uuid
    and replay_of_job_id is not null
  union all
  select earlier.step + 1, source.replay_of_job_id
  from earlier
  cross join lateral (
    select replay_of_job_id
    from pgflow.job_overview
    where id = earlier.id
    -- Without this the planner may read every partition.
    offset 0
  ) as source
  where source.replay_of_job_id is not null
    and earlier.step < %(limit)s::integer
),
later as (
  select 1 as step, resolved_at, replay_job_id as id
  from pgflow.dead_letters
  where job_id = %(job_id)s::uuid
    and replay_job_id is not null
  union all
  select later.step + 1, dead.resolved_at, dead.replay_job_id
  from later
  join pgflow.dead_letters as dead on dead.job_id = later.id
  where dead.replay_job_id is not null
    and later.step < %(limit)s::integer
)
select
  kin.is_source,
  kin.step,
  kin.id::text as job_id,
  job.status,
  to_char(coalesce(kin.resolved_at, job.created_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at
from (
  select true as is_source, step, null::timestamptz as resolved_at, id
  from earlier
  union all
  select false, step, resolved_at, id
  from later
) as kin
left join lateral (
  select status, created_at
  from pgflow.job_overview
  where id = kin.id
  offset 0
) as job on true
order by kin.is_source desc, kin.step
