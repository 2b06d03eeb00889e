-- List dead letters, newest first by the time in their job's id: open ones, resolved ones, or both.
with page as materialized (
  select dead.job_id
  from pgflow.dead_letters as dead
  where (%(resolved)s::boolean is null or (dead.resolved_at is not null) = %(resolved)s::boolean)
    and dead.job_id < coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    and
    -- include: chosen_dead_letters
  order by dead.job_id desc
  limit %(limit)s::integer
)
-- include: shown_dead_letters
order by dead.job_id desc
