-- Expired leases that were not reaped, with the oldest as an example.
select
  count(*) as leases,
  coalesce(sum(cardinality(job_ids)), 0)::bigint as jobs,
  date_part('epoch', now()) - date_part('epoch', min(expires_at)) as oldest_seconds,
  (array_agg(worker_name order by expires_at, lease_id))[1] as worker_name,
  (array_agg(job_ids[1]::text order by expires_at, lease_id))[1] as job_id
from pgflow.leases
where expires_at < now()
