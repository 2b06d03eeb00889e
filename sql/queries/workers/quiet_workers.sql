-- Tell processes to lease nothing until they are resumed; each learns of it with its next heartbeat.
update pgflow.workers
set quiet = true
where worker_id = any(%(worker_ids)s::uuid[])
  and not quiet
returning worker_id::text
