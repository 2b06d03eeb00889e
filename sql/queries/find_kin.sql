-- What a job is to those it replays and those that replay it: one step of the way, either way.
select
  job.id::text as job_id,
  job.status,
  job.replay_of_job_id::text as source_id,
  dead.replay_job_id::text as replay_id,
  to_char(job.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at
from pgflow.job_overview as job
left join pgflow.dead_letters as dead on dead.job_id = job.id
where job.id = %(job_id)s::uuid
