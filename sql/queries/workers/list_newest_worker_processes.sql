-- The worker processes that are known, alive or not, the one that was started last first.
-- include: worker_process
where (
    %(queues)s::text[] is null
    or worker.queues is null
    or worker.queues && %(queues)s::text[]
  )
  and worker.last_heartbeat >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
  and (
    %(after_at)s::timestamptz is null
    or (worker.started_at, worker.worker_id) < (%(after_at)s::timestamptz, %(after_id)s::uuid)
  )
order by worker.started_at desc, worker.worker_id desc
limit %(limit)s::integer
