-- Remove jobs and attempts that are in the archive, too: the first run is kept. Running jobs stay.
with running as materialized (
  select entry.job_id
  from pgflow.leases
  cross join lateral unnest(leases.job_ids) as entry (job_id)
),
copied as materialized (
  select jobs.id
  from pgflow.jobs
  join pgflow.jobs_archive using (id)
  where jobs.id not in (select job_id from running)
),
-- Otherwise its success would be lost.
forgotten as materialized (
  select copied.id
  from copied
  join (
    select entry.job_id
    from pgflow.job_successes_archive
    cross join lateral unnest(job_ids) as entry (job_id)
  ) as succeeded on succeeded.job_id = copied.id
),
history as (
  delete from pgflow.job_attempts
  where job_id = any(array(select id from forgotten))
),
-- include: forgotten_successes
gone as (
  delete from pgflow.jobs
  where id = any(array(select id from copied))
  returning id
)
select id::text
from gone
