-- The states of jobs; unknown jobs are left out.
select wanted.id::text as job_id, coalesce(job.status, 'nowhere') as status
from unnest(%(job_ids)s::text::uuid[]) as wanted (id)
cross join lateral (
  select status
  from pgflow.job_overview as overview
  where overview.id = wanted.id
  offset 0
) as job
