-- Remove workers that have not been heard of for a while; how long is long enough for whoever looks into it.
delete from pgflow.workers
where last_heartbeat < now() - greatest(interval '10 minutes', lease_seconds * interval '10 seconds')
returning name
