-- How many succeeded jobs without a day of their own are ripe for the archive, counted no further than some.
select coalesce(least(sum(cardinality(few.job_ids)), %(limit)s::integer), 0)::bigint
from (
  select job_ids
  from pgflow.job_successes_default
  where settled_at < %(cut)s::timestamptz
  limit %(limit)s::integer
) as few
