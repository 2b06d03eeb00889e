-- Have worker processes lease no more. Their next heartbeat reads it, and tells them.
update pgflow.workers
set quiet = true
where worker_id = any(%(worker_ids)s::text[]::uuid[])
  and not quiet
returning worker_id::text
