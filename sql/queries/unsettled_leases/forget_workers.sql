-- Remove the processes of a supervisor that says goodbye.
delete from pgflow.workers
where worker_id = any(%(worker_ids)s::uuid[])
