-- Count the jobs that an acceptance would end (of expired leases), leave alone (of workers with a heartbeat since the
-- fence was raised), or wait for (of leases that may still be extended).
with alive as materialized (
  select worker_id
  from pgflow.workers
  where last_heartbeat > (select fenced_at from pgflow.database_identity)
),
held as materialized (
  select
    entry.job_id,
    leases.worker_id in (select worker_id from alive) as lives,
    leases.expires_at > now() as extendable,
    leases.expires_at
  from pgflow.leases
  cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
)
select
  count(*) filter (where not lives and not extendable) as jobs,
  count(*) filter (where lives) as live_jobs,
  count(*) filter (where not lives and extendable) as undecided_jobs,
  coalesce(
    date_part('epoch', max(expires_at) filter (where not lives) - now()), 0
  ) as undecided_seconds,
  (select count(distinct queue) from pgflow.places) as queues,
  (select count(*) from alive) as live_workers,
  (select count(*) > 1 from pgflow.a_restore_marker) as loaded_over
from held
