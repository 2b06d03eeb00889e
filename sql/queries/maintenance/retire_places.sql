-- Retire places that have been unused for long: enqueue treats them as missing from now on, leases still scan them.
with unused as materialized (
  select mark.id, mark.retired
  from pgflow.queue_ranks as mark
  where mark.id > %(after_id)s::uuid
    -- Also those that an earlier pass retired and had no time to delete.
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
