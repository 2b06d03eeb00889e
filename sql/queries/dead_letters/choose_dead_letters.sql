-- The ids of a filter's dead letters, for a change: open ones, and those replayed before if asked for.
select dead.job_id::text as job_id
from pgflow.dead_letters as dead
where (dead.resolved_at is null or (%(again)s::boolean and dead.resolution = 'replayed'))
  -- A replay would read the row that cannot be read.
  and (not %(readable)s::boolean or dead.dlq_reason_code <> 'UNREADABLE')
  and
  -- include: chosen_dead_letters
order by
  case when %(newest_first)s::boolean then dead.died_at end desc,
  case when not %(newest_first)s::boolean then dead.died_at end,
  dead.job_id
limit %(limit)s::integer
