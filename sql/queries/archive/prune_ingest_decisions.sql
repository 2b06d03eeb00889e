-- Remove ingest decisions of minutes before some time, the oldest few.
with doomed as materialized (
  select id
  from pgflow.ingest_decisions
  where minute < %(before)s::timestamptz
  order by minute
  limit %(limit)s::integer
),
removed as (
  delete from pgflow.ingest_decisions
  where id = any(array(select id from doomed))
    and not %(dry_run)s::boolean
)
select count(*)
from doomed
