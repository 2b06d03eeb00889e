-- Remove the workers that nobody has heard of since the fence was raised: they belong to the database as it was.
delete from pgflow.workers
where last_heartbeat <= (select fenced_at from pgflow.database_identity)
