-- Retire places that have been unused for long: to enqueue they are missing from now on, a lease still scans them.
with unused as materialized (
  select mark.id, mark.retired
  from pgflow.queue_ranks as mark
  where mark.id > %(after_id)s::uuid
    -- Those, too, that an earlier pass had no time for.
    and (mark.retired or mark.used_at < %(unused_since)s::timestamptz and not (
-- include: is_in_use
    ))
  order by mark.id
  limit %(limit)s::integer
),
retired as (
  update pgflow.queue_ranks as mark
  set retired = true
  from unused
  where mark.id = unused.id
    and not unused.retired
    and not %(dry_run)s::boolean
)
select id::text
from unused
order by id
