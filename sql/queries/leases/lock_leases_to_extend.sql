-- Lock leases that a heartbeat extends, in the order that everybody locks them in. What they still hold is decided by
-- the next statement, with a newer snapshot: this one's is older than a settlement it may have waited for.
select lease_id::text
from pgflow.leases
where lease_id = any(%(lease_ids)s::uuid[])
order by lease_id
for no key update
