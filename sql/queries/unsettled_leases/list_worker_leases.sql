-- List the leases of processes that were settled for already: of a statement that was still at work, mostly none.
select worker_id::text, lease_id::text
from pgflow.leases
where worker_id = any(%(worker_ids)s::uuid[])
order by lease_id
