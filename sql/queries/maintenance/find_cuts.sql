-- What time it is, and the times before which things are archived and pruned; -infinity for never.
select
  now() as now,
  now() - %(archive_after)s::float8 * interval '1 second' as archive,
  now() - %(prune_after)s::float8 * interval '1 second' as prune,
  -- A job stays in the archive for as long as its history is kept.
  now() - (%(archive_after)s::float8 + %(prune_after)s::float8) * interval '1 second' as archived,
  coalesce(now() - %(dlq_retention)s::float8 * interval '1 second', '-infinity')::text as dlq,
  exists (
    select from pgflow.maintenance_tasks
    where last_started_at > now() - %(interval)s::float8 * interval '1 second'
  ) as lately
