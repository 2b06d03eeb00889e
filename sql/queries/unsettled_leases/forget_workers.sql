-- Remove the processes of a supervisor that ends in good order.
delete from pgflow.workers
where worker_id = any(%(worker_ids)s::uuid[])
