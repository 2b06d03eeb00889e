-- Remove the workers that have not been heard of since the fence was raised, nor within their lease: they belong to the
-- database as it was.
delete from pgflow.workers
where last_heartbeat <= (select fenced_at from pgflow.database_identity)
  and last_heartbeat < now() - lease_seconds * interval '1 second'
