-- The places to lease from, each with the cursor of this process if it has one.
--
-- Grouped, not joined: the planner knows neither the number of places nor of cursors, so it may choose a nested loop
-- over both. With thousands of queues, a lease would then expire before the statement ends.
select queue, rank, max(run_at) as run_at, max(job_id)::uuid as job_id
from (
  select queue, rank, null::timestamptz as run_at, null::text as job_id, true as known
  from pgflow.queue_ranks
  where %(queues)s::text[] is null
    or queue = any(%(queues)s::text[])
  union all
  select queue, rank, run_at, job_id, false
  from unnest(
    %(cursor_queues)s::text[], %(cursor_ranks)s::smallint[],
    %(cursor_run_ats)s::timestamptz[], %(cursor_job_ids)s::text[]
  ) as cursors (queue, rank, run_at, job_id)
) as place
group by queue, rank
having bool_or(known)
