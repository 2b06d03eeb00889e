-- Lock leases of a worker; waits for a statement that still settles them. The next statement, with a newer snapshot,
-- sees what that has written.
select lease_id::text
from pgflow.leases
where lease_id = any(%(fence_ids)s::uuid[])
  and worker_id = %(worker_id)s::uuid
order by lease_id
for update
