-- Remove processes from the list that have been silent for longer than their lease.
delete from pgflow.workers
where worker_id = any(%(worker_ids)s::uuid[])
  and last_heartbeat < now() - lease_seconds * interval '1 second'
returning worker_id::text
