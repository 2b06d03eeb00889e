-- Remove worker processes that are not heard of any more; one that lives is left alone.
delete from pgflow.workers
where worker_id = any(%(worker_ids)s::text[]::uuid[])
  and last_heartbeat < now() - lease_seconds * interval '1 second'
returning worker_id::text
