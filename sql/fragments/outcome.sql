-- How the job `wanted.id` has ended; no row if it has not. A job ends once; the limit guards against damaged data.
select 'succeeded' as status, null::text as error_code
from (
  -- include: success_of_job
) as success
union all
select 'dlq', dead_letters.error_code
from pgflow.dead_letters
where dead_letters.job_id = wanted.id
union all
select 'canceled', null
from pgflow.canceled_jobs
where canceled_jobs.job_id = wanted.id
limit 1
