-- Let those of some jobs that are scheduled be due now; tell idle workers, as enqueue does.
with
-- include: locked_waiting_jobs
removed as (
  delete from pgflow.pending
  where ctid = any(array(select place from locked where run_at > now()))
  returning queue, rank, job_id, attempt_no, job_type
),
-- A row of its own, never an update: see hold_leases in 0001_jobs.
moved as (
  insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no, job_type)
  select queue, rank, now(), job_id, attempt_no, job_type
  from removed
  returning queue, rank, run_at, job_id, attempt_no
),
-- include: moves_told
select job_id::text
from moved
-- `told` must be referenced: PostgreSQL does not execute a select in a CTE that is not.
where (select count(*) from told) >= 0
