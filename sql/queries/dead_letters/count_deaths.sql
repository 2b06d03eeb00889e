-- Count open dead letters by the time of death and by a key.
select
  date_bin(
    make_interval(secs => %(bucket)s::float8), dead.died_at, '2000-01-01 00:00:00+00'::timestamptz
  ) as bucket,
  nullif(
    -- include: dead_letter_key
    , ''
  ) as key,
  count(*) as count
from pgflow.dead_letters as dead
where dead.resolved_at is null
  and
  -- include: chosen_dead_letters
group by 1, 2
order by 1 desc, 3 desc, 2
limit %(limit)s::integer
