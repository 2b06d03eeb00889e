-- How many rows a day of a table has: counted up to a limit, beyond it estimated by the server.
select
  case parent when 'jobs' then (
    select count(*)
    from (
      select
      from pgflow.jobs
      where id >= %(first_id)s::uuid
        and id < %(end_id)s::uuid
      limit %(limit)s::integer
    ) as few
  ) when 'jobs_archive' then (
    select count(*)
    from (
      select
      from pgflow.jobs_archive
      where id >= %(first_id)s::uuid
        and id < %(end_id)s::uuid
      limit %(limit)s::integer
    ) as few
  ) when 'job_successes_archive' then (
    -- Jobs, not rows.
    select coalesce(sum(cardinality(few.job_ids)), 0)
    from (
      select job_ids
      from pgflow.job_successes_archive
      where day = to_date(%(day)s::text, 'YYYYMMDD') - date '1970-01-01'
      limit %(limit)s::integer
    ) as few
  ) else (
    select count(*)
    from (
      select
      from pgflow.job_attempts_archive
      where job_id >= %(first_id)s::uuid
        and job_id < %(end_id)s::uuid
      limit %(limit)s::integer
    ) as few
  ) end as counted,
  coalesce((
    select reltuples::bigint
    from pg_class
    where oid = to_regclass('pgflow.' || parent || '_' || %(day)s::text)
  ), 0) as estimated
from (values (%(parent)s::text)) as given (parent)
