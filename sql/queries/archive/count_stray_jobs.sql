-- Count succeeded jobs in default partitions that are old enough for the archive, up to a limit.
select coalesce(least(sum(cardinality(few.job_ids)), %(limit)s::integer), 0)::bigint
from (
  select job_ids
  from pgflow.job_successes_default
  where settled_at < %(cut)s::timestamptz
  limit %(limit)s::integer
) as few
