-- Lock the leases of a worker process that is dead for certain; waits for a statement of its that still runs.
select lease_id::text, batch_id::text
from pgflow.leases
where worker_id = %(worker_id)s::uuid
  and (%(batch_ids)s::uuid[] is null or batch_id = any(%(batch_ids)s::uuid[]))
  and (%(only)s::uuid[] is null or lease_id = any(%(only)s::uuid[]))
  -- Behind the fence, the operator who accepts the database decides what becomes of them. But of a batch that its own
  -- process names it is known that nothing has started; once the fence is down it would count as lost.
  and (%(batch_ids)s::uuid[] is not null or not exists (select from pgflow.fence where closed))
order by lease_id
for update
