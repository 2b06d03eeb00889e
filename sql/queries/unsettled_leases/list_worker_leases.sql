-- List the leases that processes still have after they were settled for: those of a late statement, usually none.
select worker_id::text, lease_id::text
from pgflow.leases
where worker_id = any(%(worker_ids)s::uuid[])
order by lease_id
