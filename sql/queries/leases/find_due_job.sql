-- Whether a job is due that a worker may lease now: no pause, no fence and no limit of its queue holds it.
select exists (
  select
  from pgflow.places as place
  cross join lateral (
    select
    from pgflow.pending
    -- include: due_entries
    limit 1
  ) as entry
  where (%(queues)s::text[] is null or place.queue = any(%(queues)s::text[]))
    and not exists (
      select from pgflow.queue_gates as gate
      where gate.queue = place.queue
        and (gate.paused or gate.limited)
    )
    and not exists (select from pgflow.fence where closed)
)
