-- Worker processes as operators see them. Silent: not heard of within its lease; it leases nothing, but may still run.
select
  worker_id::text as incarnation,
  name as worker_id,
  case
    when last_heartbeat < now() - lease_seconds * interval '1 second' then 'silent'
    when quiet then 'quiet'
    else 'alive'
  end as state,
  busy_slots,
  slots,
  queues,
  last_heartbeat,
  code_version,
  host,
  pid,
  job_types,
  last_leased_at,
  started_at,
  lease_seconds,
  supervisor_id::text as supervisor_id
from pgflow.workers
order by name, worker_id
