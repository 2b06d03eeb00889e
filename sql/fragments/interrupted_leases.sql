-- The leases that ran out and whose worker has not been heard of since the fence was raised: no worker runs their jobs.
-- A worker that lives extends its leases also behind the fence.
leases.expires_at <= now()
and not exists (
  select from pgflow.workers
  where workers.worker_id = leases.worker_id
    and workers.last_heartbeat > (select fenced_at from pgflow.database_identity)
)
