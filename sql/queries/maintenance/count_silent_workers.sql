-- How many workers `forget_silent_workers` would remove.
select count(*)
from pgflow.workers
where last_heartbeat < now() - greatest(interval '10 minutes', lease_seconds * interval '10 seconds')
