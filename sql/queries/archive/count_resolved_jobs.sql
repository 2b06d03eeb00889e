-- How many dead letters were resolved, and jobs canceled, before some time; each counted no further than some.
select
  (
    select count(*)
    from (
      select
      from pgflow.dead_letters
      where resolved_at < %(before)s::text::timestamptz
      limit %(limit)s::integer
    ) as few
  ) as dead_letters,
  (
    select count(*)
    from (
      select
      from pgflow.canceled_jobs
      where canceled_at < %(before)s::text::timestamptz
      limit %(limit)s::integer
    ) as few
  ) as canceled_jobs
