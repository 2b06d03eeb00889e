-- Remove jobs that a dump has brought back which was loaded over the schema, and which had been pruned: with their
-- history. Their entries in pending and leases go with those of all jobs that are gone.
with load as materialized (
  select identity.load_pruned_until as pruned_until, age(identity.load_began::xid) as age
  from pgflow.database_identity as identity
  -- Transactions are numbered by the server: elsewhere, or in tables made by a restore, these numbers say nothing.
  where exists (select from pgflow.fence where difference is null)
),
reloaded as materialized (
  select jobs.id
  from load
  join pgflow.jobs on jobs.id <= load.pruned_until
  -- Negative, it is older than half of all numbers.
  where age(jobs.xmin) between 0 and load.age
),
history as (
  delete from pgflow.job_attempts
  where job_id = any(array(select id from reloaded))
),
dead as (
  delete from pgflow.dead_letters
  where job_id = any(array(select id from reloaded))
),
canceled as (
  delete from pgflow.canceled_jobs
  where job_id = any(array(select id from reloaded))
),
forgotten as (
  select id from reloaded
),
-- include: forgotten_successes
gone as (
  delete from pgflow.jobs
  where id = any(array(select id from reloaded))
  returning id
)
select id::text
from gone
