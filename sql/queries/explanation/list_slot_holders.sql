-- Jobs that occupy the slots of some workers, the longest held first.
select
  entry.job_id::text as job_id,
  leases.worker_name as worker_id,
  date_part('epoch', now()) - date_part('epoch', leases.leased_at) as held_for
from pgflow.leases
cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
where leases.worker_name = any(%(worker_names)s::text[])
order by leases.leased_at, entry.job_id
limit %(limit)s::integer
