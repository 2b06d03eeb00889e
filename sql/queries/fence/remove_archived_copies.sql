-- Remove jobs and attempts that are in the archive, too: the first run is kept. What runs at the moment stays.
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
history as (
  delete from pgflow.job_attempts
  where job_id = any(array(select id from copied))
    -- Else nothing would say any more that it has succeeded.
    and job_id in (select job_id from pgflow.job_attempts_archive where status = 'succeeded')
)
delete from pgflow.jobs
where id = any(array(select id from copied))
returning id::text
