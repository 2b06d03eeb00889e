-- Of the first due entries of each place, those whose job's row cannot be read, or is gone.
damaged as materialized (
  select queue, rank, run_at, job_id, reason
  from (
    select
      entry.queue, entry.rank, entry.run_at, entry.job_id,
      coalesce(
        pgflow.why_unreadable(entry.job_id),
        case
          -- `offset 0`: looked up by its key for each. Hashed with the whole table, it fails at the damaged page itself.
          when not exists (select from pgflow.jobs where id = entry.job_id offset 0) then 'it is gone'
        end
      ) as reason
    from pgflow.places as place
    cross join lateral (
      select pending.queue, pending.rank, pending.run_at, pending.job_id
      from pgflow.pending
      -- include: due_entries
      -- Every column of the index, to its last: otherwise the whole backlog is sorted.
      order by pending.queue, pending.rank, pending.run_at, pending.job_id
      limit %(limit)s::integer
    ) as entry
    where %(queues)s::text[] is null
      or place.queue = any(%(queues)s::text[])
    -- `offset 0` reads each once: without it, the row is read again for the comparison.
    offset 0
  ) as entry
  where reason is not null
),
