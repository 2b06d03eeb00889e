-- Lock the policies of queues with a limit. What they hold is counted by the next statement, with a newer snapshot:
-- this one's is older than a lease it may have waited for. Rows locked by another session are skipped: it leases from
-- that queue.
select policy.queue
from pgflow.queue_policies as policy
join pgflow.queue_gates as gate using (queue)
where gate.limited
  and not gate.paused
  and not gate.throttled
  and (%(queues)s::text[] is null or policy.queue = any(%(queues)s::text[]))
order by policy.queue
for no key update of policy skip locked
