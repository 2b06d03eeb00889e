-- Record once an hour that queues are in use: jobs wait, run, are dead, or have ended lately. Keeps one row for each
-- place.
with doubles as (
  delete from pgflow.queue_ranks as mark
  where not mark.retired
    and exists (
      select from pgflow.queue_ranks as first
      where first.queue = mark.queue
        and first.rank = mark.rank
        and first.id < mark.id
        and not first.retired
    )
)
update pgflow.queue_ranks as mark
set used_at = now()
where not mark.retired
  and mark.used_at < now() - interval '1 hour'
  and (
-- include: is_in_use
    or exists (
      select from pgflow.dead_letters
      where dead_letters.queue = mark.queue
        and dead_letters.resolved_at is null
    )
    or mark.queue in (select queue_rates.queue from pgflow.queue_rates)
  )
  -- One row cannot be both updated and deleted in one statement.
  and not exists (
    select from pgflow.queue_ranks as first
    where first.queue = mark.queue
      and first.rank = mark.rank
      and first.id < mark.id
      and not first.retired
  )
