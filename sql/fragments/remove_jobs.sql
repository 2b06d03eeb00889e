-- The rest of a statement whose `ended` has jobs that no other table names any more: they are deleted with their
-- history.
removed as (
  delete from pgflow.jobs
  -- An array: a join might be hashed, and read every partition.
  where id = any(array(select job_id from ended))
  returning id
),
removed_archived as (
  delete from pgflow.jobs_archive
  where id = any(array(select job_id from ended))
  returning id
),
history as (
  delete from pgflow.job_attempts
  where job_id = any(array(select job_id from ended))
  returning job_id
),
history_archived as (
  delete from pgflow.job_attempts_archive
  where job_id = any(array(select job_id from ended))
  returning job_id
),
-- enqueue refuses an unknown id up to this one: its job may have run.
marked as (
  update pgflow.history_marks
  set pruned_until = newest.job_id
  from (
    select job_id
    from ended
    order by job_id desc
    limit 1
  ) as newest
  where history_marks.pruned_until < newest.job_id
)
select
  (select count(*) from doomed) as looked,
  (select count(*) from ended) as jobs,
  (select count(*) from history) + (select count(*) from history_archived) as attempts
