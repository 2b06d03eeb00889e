-- Remove dead letters that were resolved before some time, with their jobs and history, the oldest few.
with doomed as materialized (
  select job_id
  from pgflow.dead_letters
  where resolved_at < %(before)s::text::timestamptz
  order by resolved_at, job_id
  limit %(limit)s::integer
  -- Somebody replays it again: its turn comes when that is over.
  for update skip locked
),
ended as (
  delete from pgflow.dead_letters
  where job_id = any(array(select job_id from doomed))
    -- Undone meanwhile: its dead letter is open again.
    and resolved_at < %(before)s::text::timestamptz
  returning job_id
),
-- include: remove_jobs
