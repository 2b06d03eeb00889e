-- The states of a plan's canary jobs, and whether they failed with the error of their sources.
select
  wanted.id::text as job_id,
  ended.status,
  exists (
    select
    from pgflow.job_attempts as attempt
    join pgflow.dead_letters as source on source.job_id = wanted.source_job_id
    where attempt.job_id = wanted.id
      and attempt.status in ('failed', 'lost')
      and case
        when source.error_fingerprint is null then attempt.error_code = source.error_code
        else attempt.error_fingerprint = source.error_fingerprint
      end
  ) as came_back
from (
  select new_job_id as id, source_job_id
  from pgflow.replay_items
  where plan_id = %(plan_id)s::bigint
    and state = 'created'
    and is_canary
) as wanted
left join lateral (
  -- include: outcome
) as ended on true
order by wanted.id
