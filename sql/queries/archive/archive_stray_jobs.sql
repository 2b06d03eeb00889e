-- Move succeeded jobs to the archive that have no day of their own, the next few after an id.
with looked as materialized (
  select day, first_id, settled_at, job_ids
  from (
    select
      day, first_id, settled_at, job_ids,
      sum(cardinality(job_ids)) over (order by first_id) - cardinality(job_ids) as before
    from (
      select day, first_id, settled_at, job_ids
      from pgflow.job_successes_default
      where first_id > %(after)s::uuid
      order by first_id
      limit %(limit)s::integer
    ) as next
  ) as counted
  where before < %(limit)s::integer
),
-- include: move_to_archive
