-- Count the jobs of a queue that a lease would take before a job, and all due ones; both up to a limit.
--
-- By the same order and conditions as settle_and_lease: rank by rank, so that no job of the future is walked over. In
-- the index's order: else the planner may read all of a large table to find that nothing stands ahead.
select
  (
    select count(*)
    from (
      select
      from pgflow.places as place
      cross join lateral (
        select
        from pgflow.pending
        -- include: due_entries
        order by pending.queue, pending.rank, pending.run_at, pending.job_id
        limit %(limit)s::integer + 1
      ) as entry
      where place.queue = %(queue)s::text
        and place.rank < %(rank)s::smallint
      union all
      (
        select
        from (select %(queue)s::text as queue, %(rank)s::smallint as rank) as place
        cross join lateral (
          select
          from pgflow.pending
          -- include: due_entries
            and (pending.run_at, pending.job_id) < (%(run_at)s::timestamptz, %(job_id)s::uuid)
          order by pending.queue, pending.rank, pending.run_at, pending.job_id
          limit %(limit)s::integer + 1
        ) as entry
      )
      limit %(limit)s::integer + 1
    ) as counted
  ) as ahead,
  (
    select count(*)
    from (
      select
      from pgflow.places as place
      cross join lateral (
        select
        from pgflow.pending
        -- include: due_entries
        order by pending.queue, pending.rank, pending.run_at, pending.job_id
        limit %(limit)s::integer + 1
      ) as entry
      where place.queue = %(queue)s::text
      limit %(limit)s::integer + 1
    ) as counted
  ) as due
