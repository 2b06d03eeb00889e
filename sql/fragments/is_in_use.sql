  exists (
    select from pgflow.pending
    where pending.queue = mark.queue
      and pending.rank = mark.rank
  )
  -- A running job may go back to any rank of its queue.
  or mark.queue in (select leases.queue from pgflow.leases)
