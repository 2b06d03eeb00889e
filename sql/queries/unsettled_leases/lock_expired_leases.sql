-- Lock expired leases. The next statement reads which jobs they hold, with a newer snapshot: this one's is older than a
-- settlement it may have waited for.
select lease_id::text, queue
from pgflow.leases
where expires_at < now()
  and (%(only)s::uuid[] is null or lease_id = any(%(only)s::uuid[]))
  -- Leases whose end was refused a moment ago: enough of them would fill every batch.
  and lease_id <> all(%(passed_over)s::uuid[])
  -- Behind the fence, the operator who accepts the database decides about these jobs.
  and not exists (select from pgflow.fence where closed)
order by lease_id
limit %(limit)s::integer
for update skip locked
