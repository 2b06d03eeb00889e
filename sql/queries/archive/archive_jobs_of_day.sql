-- Move succeeded jobs of one day to the archive, the next few after an id.
with looked as materialized (
  select day, first_id, settled_at, job_ids
  from (
    select
      day, first_id, settled_at, job_ids,
      sum(cardinality(job_ids)) over (order by first_id) - cardinality(job_ids) as before
    from (
      select day, first_id, settled_at, job_ids
      from pgflow.job_successes
      where day = to_date(%(day)s::text, 'YYYYMMDD') - date '1970-01-01'
        and first_id > %(after)s::uuid
      order by first_id
      -- Each row is a job at least.
      limit %(limit)s::integer
    ) as next
  ) as counted
  where before < %(limit)s::integer
),
-- include: move_to_archive
