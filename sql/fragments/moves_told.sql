-- Notes where the jobs of `moved` wait now, and tells idle workers that they are due, as enqueue does.
noted as (
  insert into pgflow.moved_jobs (job_id, run_at, attempt_no, rank)
  select job_id, run_at, attempt_no, rank
  from moved
  on conflict (job_id) do update
  set run_at = excluded.run_at,
      attempt_no = excluded.attempt_no,
      rank = excluded.rank
),
told as materialized (
  select pg_notify('pgflow', queue)
  from (select distinct queue from moved) as due
  where exists (
    select
    from pgflow.workers
    where idle
      and not quiet
      and (queues is null or due.queue = any(queues))
  )
)
