-- Have those of some jobs wait again that are in no place, due now; tell idle workers, as enqueue does. Locked before.
with
-- include: nowhere_jobs
returned as (
  insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no, job_type)
  select queue, rank, now(), id, attempt_no, job_type
  from lost
  returning queue, rank, run_at, job_id, attempt_no
),
-- What a lease scans. Beyond the bound of queues, too: see create_replays.
ranked as (
  insert into pgflow.queue_ranks (queue, rank)
  select distinct queue, rank
  from returned
  where not exists (
    select
    from pgflow.queue_ranks as known
    where known.queue = returned.queue
      and known.rank = returned.rank
      and not known.retired
  )
),
noted as (
  insert into pgflow.moved_jobs (job_id, run_at, attempt_no, rank)
  select job_id, run_at, attempt_no, rank
  from returned
  on conflict (job_id) do update
  set run_at = excluded.run_at,
      attempt_no = excluded.attempt_no,
      rank = excluded.rank
),
told as materialized (
  select pg_notify('pgflow', queue)
  from (select distinct queue from returned) as due
  where exists (
    select
    from pgflow.workers
    where idle
      and not quiet
      and (queues is null or due.queue = any(queues))
  )
)
select job_id::text
from returned
-- Asked for: a CTE that is not read is not run.
where (select count(*) from told) >= 0
