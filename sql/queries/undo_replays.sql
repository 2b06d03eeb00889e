-- Cancel jobs of a plan that have not been tried, and reopen their sources; the plan's items are locked.
with
chunk as materialized (
  select place, source_job_id, new_job_id, prior_job_id, prior_resolved_at, prior_resolution
  from pgflow.replay_items
  where plan_id = %(plan_id)s::bigint
    and state = 'created'
    and place > %(after_place)s::integer
  order by place
  limit %(limit)s::integer
),
keyed as materialized (
  select pending.queue, pending.rank, pending.run_at, pending.job_id
  from chunk
  cross join lateral (
    select queue, run_at
    from (
      -- include: every_job
    ) as job
    where job.id = chunk.new_job_id
    offset 0
  ) as job
  left join pgflow.moved_jobs as moved on moved.job_id = chunk.new_job_id
  join pgflow.queue_ranks as ranks on ranks.queue = job.queue
  join pgflow.pending
    on pending.queue = ranks.queue
    and pending.rank = ranks.rank
    and pending.run_at = coalesce(moved.run_at, job.run_at)
    and pending.job_id = chunk.new_job_id
  where pending.attempt_no = 0
),
-- Whoever moves a job in SQL leaves no trace of its key: then it is searched for, and only then.
missing as materialized (
  select new_job_id
  from chunk
  where not exists (select from keyed where keyed.job_id = chunk.new_job_id)
    and not exists (select from pgflow.job_attempts where job_attempts.job_id = chunk.new_job_id)
    and not exists (select from pgflow.canceled_jobs where canceled_jobs.job_id = chunk.new_job_id)
    and not exists (select from pgflow.leases where leases.job_ids @> array[chunk.new_job_id])
),
found as (
  select queue, rank, run_at, job_id
  from keyed
  union all
  select pending.queue, pending.rank, pending.run_at, pending.job_id
  from pgflow.pending
  where exists (select from missing)
    and pending.job_id = any(array(select new_job_id from missing))
    and pending.attempt_no = 0
),
locked as materialized (
  select pending.queue, pending.rank, pending.run_at, pending.job_id
  from found
  join pgflow.pending using (queue, rank, run_at, job_id)
  where pending.attempt_no = 0
  order by pending.queue, pending.rank, pending.run_at, pending.job_id
  for update of pending
),
removed as (
  delete from pgflow.pending
  using locked
  where pending.queue = locked.queue
    and pending.rank = locked.rank
    and pending.run_at = locked.run_at
    and pending.job_id = locked.job_id
  returning pending.job_id, pending.queue
),
canceled as (
  insert into pgflow.canceled_jobs (job_id, queue, canceled_by, note, action_id)
  select job_id, queue, %(actor)s::text, %(note)s::text, %(action_id)s::bigint
  from removed
),
dead as materialized (
  select dead_letters.job_id
  from pgflow.dead_letters
  where dead_letters.job_id = any(
      array(select chunk.source_job_id from chunk join removed on removed.job_id = chunk.new_job_id)
    )
  order by dead_letters.job_id
  for update
),
reopened as (
  update pgflow.dead_letters as source
  set resolved_at = chunk.prior_resolved_at,
      resolution = chunk.prior_resolution,
      replay_job_id = chunk.prior_job_id,
      action_id = %(action_id)s::bigint
  from dead
  join chunk on chunk.source_job_id = dead.job_id
  where source.job_id = dead.job_id
    -- Unless somebody has replayed it once more.
    and source.replay_job_id = chunk.new_job_id
),
marked as (
  update pgflow.replay_items as item
  set state = 'undone'
  from chunk
  join removed on removed.job_id = chunk.new_job_id
  where item.plan_id = %(plan_id)s::bigint
    and item.place = chunk.place
),
counted as (
  update pgflow.replay_plans
  set created = created - (select count(*) from removed),
      undone = undone + (select count(*) from removed)
  where id = %(plan_id)s::bigint
)
select
  coalesce(max(chunk.place), %(after_place)s::integer) as last_place,
  array(select job_id::text from removed order by job_id) as job_ids
from chunk
