-- The jobs that a job replays, and those that replay it: one step in both directions.
select
  job.id::text as job_id,
  job.status,
  job.replay_of_job_id::text as source_id,
  coalesce(dead.replay_job_id, item.new_job_id)::text as replay_id,
  coalesce(
    to_char(job.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), job.created_at::text
  ) as created_at
from pgflow.job_overview as job
left join pgflow.dead_letters as dead on dead.job_id = job.id
-- A job that is no dead letter can be replayed, too; only the plan records that. The latest of several.
left join lateral (
  select new_job_id
  from pgflow.replay_items
  where source_job_id = job.id
    and state = 'created'
    and dead.replay_job_id is null
  order by plan_id desc
  limit 1
) as item on true
where job.id = %(job_id)s::uuid
-- An id that was enqueued again after its job had been archived, before enqueue looked there, names two: the later one.
order by job.created_at desc
limit 1
