-- How many jobs of a queue are due now, due later, and dead; each counted up to a limit.
select
  (
    select count(*)
    from (
      select
      from pgflow.places as ranks
      cross join lateral (
        select
        from pgflow.pending
        where pending.queue = ranks.queue
          and pending.rank = ranks.rank
          and pending.run_at <= now()
        limit %(limit)s::integer
      ) as entry
      where ranks.queue = %(queue)s::text
      limit %(limit)s::integer
    ) as due
  )::integer as queued,
  (
    select count(*)
    from (
      select
      from pgflow.places as ranks
      cross join lateral (
        select
        from pgflow.pending
        where pending.queue = ranks.queue
          and pending.rank = ranks.rank
          and pending.run_at > now()
        limit %(limit)s::integer
      ) as entry
      where ranks.queue = %(queue)s::text
      limit %(limit)s::integer
    ) as later
  )::integer as scheduled,
  (
    select count(*)
    from (
      select
      from pgflow.dead_letters
      where queue = %(queue)s::text
        and resolved_at is null
      limit %(limit)s::integer
    ) as dead
  )::integer as dlq
