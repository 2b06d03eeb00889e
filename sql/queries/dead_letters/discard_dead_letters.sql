-- Resolve open dead letters as discarded; they stay until their retention ends.
with locked as materialized (
  select job_id
  from pgflow.dead_letters
  where job_id = any(%(job_ids)s::uuid[])
    and resolved_at is null
  order by job_id
  for update
)
update pgflow.dead_letters as dead
set resolved_at = now(),
    resolution = 'discarded',
    action_id = %(action_id)s::bigint
from locked
where dead.job_id = locked.job_id
  and dead.resolved_at is null
returning dead.job_id::text as job_id
