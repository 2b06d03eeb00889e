-- Have those of some jobs wait again that are in no place, due now; tell idle workers, as enqueue does. Locked before.
with
-- include: nowhere_jobs
moved as (
  insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no, job_type)
  select queue, rank, now(), id, attempt_no, job_type
  from lost
  returning queue, rank, run_at, job_id, attempt_no
),
-- What a lease scans. Beyond the bound of queues, too: see create_replays.
ranked as (
  insert into pgflow.queue_ranks (queue, rank)
  select distinct queue, rank
  from moved
  where not exists (
    select
    from pgflow.queue_ranks as known
    where known.queue = moved.queue
      and known.rank = moved.rank
      and not known.retired
  )
),
-- include: moves_told
select job_id::text
from moved
-- `told` must be referenced: PostgreSQL does not execute a select in a CTE that is not.
where (select count(*) from told) >= 0
