-- Count the worker processes that were heard of within their lease.
select count(*)
from pgflow.workers
where last_heartbeat >= now() - lease_seconds * interval '1 second'
