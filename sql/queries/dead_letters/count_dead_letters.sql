-- Count the open dead letters of a filter by error code, the latest so many, and the resolved ones up to as many.
select false as resolved, error_code, count(*) as jobs
from (
  select dead.error_code
  from pgflow.dead_letters as dead
  where dead.resolved_at is null
    and
    -- include: chosen_dead_letters
  order by dead.died_at desc, dead.job_id desc
  limit %(limit)s::integer
) as open_ones
group by error_code
union all
select true, null, count(*)
from (
  select
  from pgflow.dead_letters as dead
  where dead.resolved_at is not null
    and
    -- include: chosen_dead_letters
  limit %(limit)s::integer
) as resolved_ones
order by resolved, jobs desc, error_code
