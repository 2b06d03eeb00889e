-- Jobs of a day that cannot move to the archive yet, or never do, up to a limit.
--
-- Every job is in one table, so jobs in none of these have succeeded before the cut. Asked this way round, the cost is
-- that of the stragglers, and of one scan of pending. pending has no index on job_id, which would cost every enqueue
-- and every lease.
select job_id::text
from (
  (
    select job_id
    from pgflow.dead_letters
    where job_id >= %(first_id)s::uuid
      and job_id < %(end_id)s::uuid
    order by job_id
    limit %(limit)s::integer
  )
  union
  (
    select job_id
    from pgflow.canceled_jobs
    where job_id >= %(first_id)s::uuid
      and job_id < %(end_id)s::uuid
    order by job_id
    limit %(limit)s::integer
  )
  union
  select entry.job_id
  from pgflow.leases
  cross join lateral unnest(leases.job_ids) as entry (job_id)
  where entry.job_id >= %(first_id)s::uuid
    and entry.job_id < %(end_id)s::uuid
  union
  (
    select job_id
    from pgflow.pending
    where job_id >= %(first_id)s::uuid
      and job_id < %(end_id)s::uuid
    limit %(limit)s::integer
  )
  union
  -- Jobs that ended lately, found by the BRIN index of finished_at and not by reading the whole day.
  (
    select job_id
    from pgflow.job_attempts
    where job_id >= %(first_id)s::uuid
      and job_id < %(end_id)s::uuid
      and finished_at >= %(cut)s::timestamptz
    limit %(limit)s::integer
  )
  union
  -- All jobs of a row of successes stay together.
  (
    select entry.job_id
    from pgflow.job_successes as success
    cross join lateral unnest(success.job_ids) as entry (job_id)
    where success.day = to_date(%(day)s::text, 'YYYYMMDD') - date '1970-01-01'
      and success.settled_at >= %(cut)s::timestamptz
    limit %(limit)s::integer
  )
) as staying
limit %(limit)s::integer
