-- List the jobs that a plan has created and where each is, in the order of the plan.
select
  item.place,
  item.new_job_id::text as job_id,
  item.source_job_id::text as replay_of_job_id,
  job.status,
  job.attempt_no,
  job.last_error_code
from (
  select place, new_job_id, source_job_id
  from pgflow.replay_items
  where plan_id = %(plan_id)s::bigint
    and state = 'created'
    and place > %(after_place)s::integer
  order by place
  limit %(limit)s::integer
) as item
left join lateral (
  select status, attempt_no, last_error_code
  from pgflow.job_overview
  where id = item.new_job_id
  offset 0
) as job on true
order by item.place
