-- The worker processes that are known. Alive: heard of within its lease. One that was silent for longer leases nothing.
select
  name,
  host,
  pid,
  last_heartbeat >= now() - lease_seconds * interval '1 second' as alive,
  date_part('epoch', now()) - date_part('epoch', last_heartbeat) as silent_for,
  quiet,
  retiring,
  spare,
  date_part('epoch', now()) - date_part('epoch', stalled_since) as stalled_for,
  deaths,
  slots,
  busy_slots,
  queues,
  job_types,
  code_version
from pgflow.workers
order by name, worker_id
