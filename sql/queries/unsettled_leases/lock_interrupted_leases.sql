-- Lock the leases that no worker extends any more: their jobs ran when the database was dumped, cloned or fenced.
select lease_id::text
from pgflow.leases
where
  -- include: interrupted_leases
order by lease_id
for update
