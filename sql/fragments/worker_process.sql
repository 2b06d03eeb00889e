-- A worker process as operators see it. Alive: heard of within its lease.
select
  worker.worker_id::text as worker_id,
  worker.name,
  case
    when worker.last_heartbeat < now() - worker.lease_seconds * interval '1 second' then 'silent'
    when worker.deaths = 0 then 'starting'
    when worker.deaths is not null then 'restarting'
    when worker.spare then 'spare'
    -- Before quiet: a quiet process that retires has a replacement, which is quiet, too, and this one ends.
    when worker.retiring then 'retiring'
    when worker.quiet then 'quiet'
    when worker.stalled_since is not null then 'stalled'
    when worker.idle and worker.busy_slots = 0 then 'idle'
    else 'busy'
  end as state,
  worker.host,
  worker.pid,
  worker.busy_slots,
  worker.slots,
  held.jobs as held_jobs,
  worker.queues,
  cardinality(worker.job_types) as handlers,
  worker.job_types,
  worker.code_version,
  worker.last_heartbeat,
  worker.last_leased_at,
  worker.started_at,
  worker.lease_seconds,
  worker.supervisor_id::text as supervisor_id
from pgflow.workers as worker
cross join lateral (
  select coalesce(sum(cardinality(leases.job_ids)), 0)::bigint as jobs
  from pgflow.leases
  where leases.worker_id = worker.worker_id
) as held
