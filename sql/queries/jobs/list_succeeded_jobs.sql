-- Jobs that have succeeded, newest first by the time in their id: no index has them in the order of their end.
with recursive
bounds as materialized (
  select
    since, until,
    ('x' || left(replace(until::text, '-', ''), 12))::bit(48)::bigint as until_time
  from (
    select
-- include: since_id
      as since,
      least(
-- include: until_id
        , coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
      ) as until
  ) as given
),
-- From the newest row of successes to older ones, until they hold enough. One that is not reached may overlap them:
-- what is wanted of it is not less than the first id of the last one.
steps as (
  (
    select success.day, success.first_id, success.jobs
    from bounds
    cross join lateral (
      select
        day, first_id,
        (select count(*) from unnest(job_ids) as entry (id) where entry.id < bounds.until) as jobs
      from pgflow.job_successes
      where day <= bounds.until_time / 86400000
        and first_id < bounds.until
      order by day desc, first_id desc
      limit 1
    ) as success
  )
  union all
  select older.day, older.first_id, steps.jobs + older.jobs
  from steps
  cross join bounds
  cross join lateral (
    select
      day, first_id,
      (select count(*) from unnest(job_ids) as entry (id) where entry.id < bounds.until) as jobs
    from pgflow.job_successes
    where day <= steps.day
      and (day, first_id) < (steps.day, steps.first_id)
    order by day desc, first_id desc
    limit 1
  ) as older
  where steps.jobs < %(most)s::integer
    and steps.first_id > bounds.since
),
looked as materialized (
  select null::timestamptz as at, entry.id
  from (
    select
      bounds.until, bounds.until_time, greatest(bounds.since, reached.first_id) as since,
      ('x' || left(replace(reached.first_id::text, '-', ''), 12))::bit(48)::bigint as since_time
    from bounds
    cross join (select first_id from steps order by day, first_id limit 1) as reached
  ) as span
  join pgflow.job_successes as success
    on success.day between span.since_time / 86400000 and span.until_time / 86400000
    and success.id_times && int8range(span.since_time, span.until_time, '[]')
  cross join lateral unnest(success.job_ids) as entry (id)
  where entry.id >= span.since
    and entry.id < span.until
  order by entry.id desc
  limit %(most)s::integer
),
-- include: listed_jobs
