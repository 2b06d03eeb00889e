-- Jobs that use up a queue's limit of jobs in flight, the longest held first. They are what pgflow.queue_usage counts.
select
  entry.job_id::text as job_id,
  leases.worker_name as worker_id,
  date_part('epoch', now()) - date_part('epoch', leases.leased_at) as held_for
from pgflow.leases
cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
where leases.queue = %(queue)s::text
order by leases.leased_at, entry.job_id
limit %(limit)s::integer
