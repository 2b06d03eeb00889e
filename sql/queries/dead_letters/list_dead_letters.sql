-- List dead letters, the latest death first: open ones, and resolved ones if asked for.
with page as materialized (
  select job_id
  from (
    -- Two branches, because each has an index in the order of the list.
    (
      select dead.job_id, dead.died_at
      from pgflow.dead_letters as dead
      where dead.resolved_at is null
        and (
          %(after_at)s::timestamptz is null
          or (dead.died_at, dead.job_id) < (%(after_at)s::timestamptz, %(after_id)s::uuid)
        )
        and
        -- include: chosen_dead_letters
      order by dead.died_at desc, dead.job_id desc
      limit %(limit)s::integer
    )
    union all
    (
      select dead.job_id, dead.died_at
      from pgflow.dead_letters as dead
      where %(include_resolved)s::boolean
        and dead.resolved_at is not null
        and (
          %(after_at)s::timestamptz is null
          or (dead.died_at, dead.job_id) < (%(after_at)s::timestamptz, %(after_id)s::uuid)
        )
        and
        -- include: chosen_dead_letters
      order by dead.died_at desc, dead.job_id desc
      limit %(limit)s::integer
    )
  ) as either
  order by died_at desc, job_id desc
  limit %(limit)s::integer
)
-- include: shown_dead_letters
order by dead.died_at desc, dead.job_id desc
