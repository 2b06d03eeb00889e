-- Remove workers that have sent no heartbeat for a long time, which leaves operators time to look at them.
delete from pgflow.workers
where last_heartbeat < now() - greatest(interval '10 minutes', lease_seconds * interval '10 seconds')
returning name
