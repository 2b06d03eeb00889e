-- Remove dead letters that are locked, with their jobs and history.
with doomed as materialized (
  select job_id
  from unnest(%(job_ids)s::uuid[]) as wanted (job_id)
),
ended as (
  delete from pgflow.dead_letters
  where job_id = any(array(select job_id from doomed))
    -- Undone before it was locked: its dead letter is open again.
    and resolved_at < %(before)s::text::timestamptz
  returning job_id
),
-- include: remove_jobs
