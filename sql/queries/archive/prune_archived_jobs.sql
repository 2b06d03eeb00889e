-- Remove archived jobs that have no day of their own, with their attempts, the next few after an id.
with looked as materialized (
  select id
  from pgflow.jobs_archive_default
  where id > %(after)s::uuid
    and id < pgflow.least_id(%(before)s::timestamptz)
  order by id
  limit %(limit)s::integer
),
doomed as materialized (
  select id
  from looked
  where not exists (
    select from pgflow.job_attempts_archive as attempt
    where attempt.job_id = looked.id
      and attempt.finished_at >= %(before)s::timestamptz
  )
  and not exists (
    select
    from (select looked.id) as wanted
    cross join lateral (
      -- include: success_of_job
    ) as success
    where success.finished_at >= %(before)s::timestamptz
  )
),
removed as (
  delete from pgflow.jobs_archive_default
  where id = any(array(select id from doomed))
    and not %(dry_run)s::boolean
  returning id
),
history as (
  delete from pgflow.job_attempts_archive
  where job_id = any(array(select id from removed))
  returning job_id
),
successes as (
  delete from pgflow.job_successes_archive_default as success
  where first_id < pgflow.least_id(%(before)s::timestamptz)
    and exists (select from removed where removed.id = any(success.job_ids))
    -- A row is deleted with the last of its jobs.
    and not exists (
      select from pgflow.jobs_archive
      where jobs_archive.id = any(success.job_ids)
        and jobs_archive.id not in (select id from removed)
    )
  returning job_ids
),
-- enqueue refuses an unknown id up to here: its job may have run.
marked as (
  update pgflow.history_marks
  set pruned_until = newest.id
  from (
    select id
    from removed
    order by id desc
    limit 1
  ) as newest
  where history_marks.pruned_until < newest.id
)
select
  (select count(*) from looked) as looked,
  (select id::text from looked order by id desc limit 1) as last_id,
  (select count(*) from doomed) as jobs,
  (select count(*) from history) + (select coalesce(sum(cardinality(job_ids)), 0)::bigint from successes) as attempts
