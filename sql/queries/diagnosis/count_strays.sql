-- Rows in the default partitions, counted up to a limit: their ids are of days that have no partition.
select 'jobs' as parent, count(*) as rows
from (select from pgflow.jobs_default limit %(limit)s::integer + 1) as few
union all
select 'job_attempts', count(*)
from (select from pgflow.job_attempts_default limit %(limit)s::integer + 1) as few
union all
select 'job_successes', count(*)
from (select from pgflow.job_successes_default limit %(limit)s::integer + 1) as few
