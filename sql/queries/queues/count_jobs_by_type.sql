-- Count the jobs of each queue and type by status. Reads every job: for the demo's small database.
select
  queue,
  job_type,
  count(*) filter (where status = 'queued') as queued,
  count(*) filter (where status = 'scheduled') as scheduled,
  count(*) filter (where status = 'running') as running,
  count(*) filter (where status = 'succeeded') as succeeded,
  count(*) filter (where status = 'dlq') as dlq,
  count(*) filter (where status = 'canceled') as canceled,
  coalesce(sum(attempt_no), 0)::bigint as attempts
from pgflow.job_overview
group by queue, job_type
order by queue, job_type
