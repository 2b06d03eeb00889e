-- Count jobs that are in no table and in two tables, and entries of jobs that do not exist.
--
-- What replaces foreign keys on the hot path. One statement, hence one snapshot: all three are 0 at any instant.
with places as (
  select job_id, true as needs_job
  from pgflow.pending
  union all
  select entry.job_id, true
  from pgflow.leases
  cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
  union all
  -- The record of an ended job may be kept for longer than the job itself.
  select entry.job_id, false
  from pgflow.any_successes as success
  cross join lateral unnest(success.job_ids) as entry (job_id)
  union all
  select job_id, false
  from pgflow.dead_letters
  union all
  select job_id, false
  from pgflow.canceled_jobs
),
counted as (
  select job_id, count(*) as places, bool_or(needs_job) as needs_job
  from places
  group by job_id
)
select
  -- Archived jobs, too: their attempts say that they have succeeded.
  count(*) filter (where counted.job_id is null) as in_no_place,
  count(*) filter (where counted.places > 1 or known.copies > 1) as in_two_places,
  count(*) filter (where known.id is null and counted.needs_job) as without_job,
  -- The first few of them all, to look at; null if all is well.
  (
    array_agg(coalesce(known.id, counted.job_id)::text order by known.id, counted.job_id) filter (
      where counted.job_id is null
        or counted.places > 1
        or known.copies > 1
        or (known.id is null and counted.needs_job)
    )
  )[1:5] as examples
from (
  select id, count(*) as copies
  from pgflow.any_jobs
  group by id
) as known
full join counted on counted.job_id = known.id
