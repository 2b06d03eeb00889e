-- Lock leases that a heartbeat extends, in the order of every statement that locks them.
select lease_id::text
from pgflow.leases
where lease_id = any(%(lease_ids)s::uuid[])
order by lease_id
for no key update
