-- Discard a batch of a queue's dead letters, the oldest first.
with doomed as materialized (
  select job_id
  from pgflow.dead_letters
  where queue = %(queue)s::text
    and resolved_at is null
  order by died_at, job_id
  limit %(limit)s::integer
  for update skip locked
)
update pgflow.dead_letters
set resolved_at = now(),
    resolution = 'discarded',
    action_id = %(action_id)s::bigint
from doomed
where dead_letters.job_id = doomed.job_id
  and dead_letters.resolved_at is null
returning dead_letters.job_id::text
