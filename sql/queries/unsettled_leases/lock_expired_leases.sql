-- Lock leases that have run out. What they still hold is decided by the next statement, with a newer snapshot:
-- this one's is older than a settlement it may have waited for.
select lease_id::text, queue
from pgflow.leases
where expires_at < now()
  and (%(only)s::uuid[] is null or lease_id = any(%(only)s::uuid[]))
  -- Their end was refused a moment ago: with enough of them, no batch would hold any other.
  and lease_id <> all(%(passed_over)s::uuid[])
  -- Behind the fence, the operator who accepts the database decides what becomes of them.
  and not exists (select from pgflow.fence where closed)
order by lease_id
limit %(limit)s::integer
for update skip locked
