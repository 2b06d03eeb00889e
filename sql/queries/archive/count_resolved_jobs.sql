-- Count dead letters that were resolved, and jobs that were canceled, before a time; each up to a limit.
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
