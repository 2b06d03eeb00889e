-- How many succeeded jobs without a day of their own are ripe for the archive, counted no further than some.
select count(*)
from (
  select
  from pgflow.job_attempts_default
  where status = 'succeeded'
    and finished_at < %(cut)s::timestamptz
  limit %(limit)s::integer
) as few
