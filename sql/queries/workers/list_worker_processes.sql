-- The worker processes that are known, alive or not, as operators see them. Alive: heard of within its lease.
-- include: worker_process
order by worker.name, worker.worker_id
