-- How jobs have ended as far as the place says it that they are in: what is archived has succeeded; and those that are
-- nowhere, which nothing will end.
select wanted.id::text as job_id, job.status, null::text as error_code
from unnest(%(job_ids)s::text::uuid[]) as wanted (id)
cross join lateral (
  select status
  from pgflow.job_overview as overview
  where overview.id = wanted.id
  offset 0
) as job
where job.status in ('succeeded', 'nowhere')
