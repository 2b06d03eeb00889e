-- Dead letters, running and pending jobs whose id ends with a suffix.
select job_id::text, place, queue
from (
  select job_id, 'dlq' as place, queue
  from pgflow.dead_letters
  where right(job_id::text, length(%(suffix)s::text)) = %(suffix)s::text
  union
  select entry.job_id, 'running', leases.queue
  from pgflow.leases
  cross join lateral unnest(leases.job_ids) as entry (job_id)
  where right(entry.job_id::text, length(%(suffix)s::text)) = %(suffix)s::text
  union
  select job_id, 'pending', queue
  from pgflow.pending
  where right(job_id::text, length(%(suffix)s::text)) = %(suffix)s::text
) as found
order by job_id, place
limit %(limit)s::integer
