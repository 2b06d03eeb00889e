-- Tell processes to lease again; each learns of it with its next heartbeat.
update pgflow.workers
set quiet = false
where worker_id = any(%(worker_ids)s::uuid[])
  and quiet
returning worker_id::text
