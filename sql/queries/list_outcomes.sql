-- How jobs have ended; those that have not are left out.
select wanted.id::text as job_id, ended.status, ended.error_code
from unnest(%(job_ids)s::text::uuid[]) as wanted (id)
cross join lateral (
  select 'succeeded' as status, null::text as error_code
  from pgflow.any_attempts as attempt
  where attempt.job_id = wanted.id
    and attempt.status = 'succeeded'
  union all
  select 'dlq', dead_letters.error_code
  from pgflow.dead_letters
  where dead_letters.job_id = wanted.id
  union all
  select 'canceled', null
  from pgflow.canceled_jobs
  where canceled_jobs.job_id = wanted.id
  -- A job ends once; this keeps it one row if it ever should not.
  limit 1
) as ended
