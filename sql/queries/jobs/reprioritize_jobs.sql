-- Give those of some jobs that wait another priority, for this attempt and those that follow.
with
-- include: locked_waiting_jobs
removed as (
  delete from pgflow.pending
  where ctid = any(array(select place from locked))
  returning queue, run_at, job_id, attempt_no, job_type
),
-- A row of its own, never an update: see hold_leases in 0001_jobs.
moved as (
  insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no, job_type)
  select queue, -%(priority)s::smallint, run_at, job_id, attempt_no, job_type
  from removed
  returning queue, rank, run_at, job_id, attempt_no
),
-- A lease scans only places with such a row. It is written beyond the bound of queues, too: see create_replays.
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
noted as (
  insert into pgflow.moved_jobs (job_id, run_at, attempt_no, rank)
  select job_id, run_at, attempt_no, rank
  from moved
  on conflict (job_id) do update
  set run_at = excluded.run_at,
      attempt_no = excluded.attempt_no,
      rank = excluded.rank
)
select job_id::text
from moved
