-- Lock the leases that hold some jobs: from here on, no outcome of theirs is recorded. Which still run is decided by
-- the next statement, with a newer snapshot: this one's is older than a settlement it may have waited for.
select lease_id::text
from pgflow.leases
where job_ids && %(job_ids)s::text::uuid[]
order by lease_id
for update
