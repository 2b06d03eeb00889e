-- Lock the leases whose worker is not known: their jobs ran when the database was dumped or cloned.
select lease_id::text
from pgflow.leases
where not exists (
  select from pgflow.workers
  where workers.worker_id = leases.worker_id
)
order by lease_id
for update
