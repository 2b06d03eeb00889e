-- The day partitions missing from yesterday to some days ahead, or one by its name, with the statements that make each.
--
-- A table is made by itself and then attached. `create table … partition of` would lock its parent exclusively: it
-- would wait for the longest transaction that uses the parent, and all other sessions would wait behind it.
with days as (
  select
    day, (day::date - date '1970-01-01')::integer as number,
    -- The first 48 bits of a UUIDv7 are its milliseconds.
    rpad(lpad(to_hex((date_part('epoch', day) * 1000)::bigint), 12, '0'), 32, '0')::uuid as first_id,
    rpad(lpad(to_hex((date_part('epoch', day) * 1000)::bigint + 86400000), 12, '0'), 32, '0')::uuid as end_id
  -- Timestamps without a zone: days of UTC, whatever the session's zone.
  from generate_series(
    date_trunc('day', now() at time zone 'UTC') - interval '1 day',
    date_trunc('day', now() at time zone 'UTC') + %(days_ahead)s::integer * interval '1 day',
    interval '1 day'
  ) as day
),
wanted as (
  select
    parent, key, days.day, days.number, days.first_id, days.end_id, options,
    parent || to_char(days.day, '_YYYYMMDD') as name,
    case parent when 'job_successes' then quote_literal(days.number) else quote_literal(days.first_id) end as begins,
    case parent when 'job_successes' then quote_literal(days.number + 1) else quote_literal(days.end_id) end as ends
  from (
    values
      ('jobs', 'id', ''),
      ('job_attempts', 'job_id', ''),
      -- See its default partition.
      ('job_successes', 'day', ' with (toast_tuple_target = 8160)')
  ) as parents (parent, key, options)
  cross join days
),
missing as (
  select
    parent, name, key, day, begins, ends, options,
    case parent
      when 'jobs' then (
        -- Counted up to a limit: too many rows to move stay where they are.
        select count(*)
        from (
          select
          from pgflow.jobs_default
          where id >= first_id
            and id < end_id
          limit %(most_strays)s::integer + 1
        ) as few
      )
      when 'job_successes' then (
        select count(*)
        from (
          select
          from pgflow.job_successes_default
          where job_successes_default.day = number
          limit %(most_strays)s::integer + 1
        ) as few
      )
      else (
        select count(*)
        from (
          select
          from pgflow.job_attempts_default
          where job_id >= first_id
            and job_id < end_id
          limit %(most_strays)s::integer + 1
        ) as few
      )
    end as strays
  from wanted
  where to_regclass('pgflow.' || name) is null
    and (%(name)s::text is null or name = %(name)s::text)
),
-- The columns by name: dropped and added ones may stand in another order.
columns as (
  select parent, string_agg(quote_ident(attname), ', ' order by attnum) as list
  from (select distinct parent from missing) as parents
  join pg_attribute on attrelid = to_regclass('pgflow.' || parent)
  where attnum > 0
    and not attisdropped
  group by parent
)
select
  name,
  strays::integer as strays,
  array_remove(array[
    -- Rows of this day are being written to the default partition, or may be. Its writers must not wait behind us for
    -- that partition: they have chosen it already, and their rows would be refused. Here they wait before they choose.
    case
      when strays > 0 or day <= now() at time zone 'UTC'
        then concat('lock table only pgflow.', parent, ' in share row exclusive mode')
    end,
    concat('create table pgflow.', name, ' (like pgflow.', parent, ' including all)', options),
    -- The check that the archive needs when it attaches the day: without it, attach would read every row while other
    -- sessions wait.
    concat(
      'alter table pgflow.', name, ' add constraint id_is_of_its_day check (',
      key, ' >= ', begins, ' and ', key, ' < ', ends, ')'
    ),
    -- Also if there were no strays yet when they were counted: until the lock is had, writers go on.
    case
      when strays > 0 or day <= now() at time zone 'UTC' then concat(
        'with strays as (delete from pgflow.', parent, '_default where ', key, ' >= ', begins,
        ' and ', key, ' < ', ends, ' returning ', list, ')',
        ' insert into pgflow.', name, ' (', list, ') select ', list, ' from strays'
      )
    end,
    concat(
      'alter table pgflow.', parent, ' attach partition pgflow.', name,
      ' for values from (', begins, ') to (', ends, ')'
    )
  ], null) as statements
from missing
join columns using (parent)
order by day, parent desc
