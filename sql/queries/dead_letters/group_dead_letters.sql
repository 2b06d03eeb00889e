-- Group dead letters by a key, the largest group first, with the latest of each as an example.
with chosen as materialized (
  select
    dead.job_id, dead.died_at,
    -- include: dead_letter_key
    as key
  from pgflow.dead_letters as dead
  where (dead.resolved_at is null or %(include_resolved)s::boolean)
    and
    -- include: chosen_dead_letters
),
grouped as (
  select key, count(*) as jobs, min(died_at) as first_at, max(died_at) as last_at
  from chosen
  group by key
),
latest as (
  select distinct on (key) key, job_id
  from chosen
  order by key, died_at desc, job_id desc
)
select
  nullif(grouped.key, '') as key,
  grouped.jobs as count,
  (grouped.jobs / sum(grouped.jobs) over ())::float8 as share,
  grouped.first_at,
  grouped.last_at,
  sample.job_type,
  sample.error_code,
  sample.job_id::text as sample_job_id,
  sample.error_message as message
from grouped
join latest using (key)
join pgflow.dead_letters as sample on sample.job_id = latest.job_id
order by grouped.jobs desc, grouped.last_at desc, grouped.key
limit %(limit)s::integer
