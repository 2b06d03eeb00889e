-- Cancel jobs of a plan that have not been tried, and reopen their sources; the plan's items and these are
-- locked.
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
sought as materialized (
  select
    chunk.place, chunk.source_job_id, chunk.new_job_id, chunk.prior_job_id, chunk.prior_resolved_at,
    chunk.prior_resolution, waiting.queue, waiting.rank, waiting.run_at
  from chunk
  left join lateral (
    select pending.queue, pending.rank, pending.run_at
    from (
      -- include: every_job
    ) as job
    left join pgflow.moved_jobs as moved on moved.job_id = job.id
    join pgflow.places as ranks on ranks.queue = job.queue
    join pgflow.pending
      on pending.queue = ranks.queue
      and pending.rank = ranks.rank
      and pending.run_at = coalesce(moved.run_at, job.run_at)
      and pending.job_id = job.id
    where job.id = chunk.new_job_id
    limit 1
  ) as waiting on true
),
-- A job that was moved by SQL outside of pgflow left no record of its key: only then it is searched for.
missing as materialized (
  select place, source_job_id, new_job_id, prior_job_id, prior_resolved_at, prior_resolution
  from sought
  where queue is null
    and not exists (select from pgflow.job_attempts where job_attempts.job_id = sought.new_job_id offset 0)
    and not exists (
      select
      from (select sought.new_job_id as id) as wanted
      cross join lateral (
        -- include: success_of_job
      ) as success
      offset 0
    )
    and not exists (select from pgflow.canceled_jobs where canceled_jobs.job_id = sought.new_job_id offset 0)
    and not exists (select from pgflow.leases where leases.job_ids @> array[sought.new_job_id] offset 0)
),
found as (
  select
    place, source_job_id, new_job_id, prior_job_id, prior_resolved_at, prior_resolution, queue, rank, run_at
  from sought
  where queue is not null
  union all
  select
    missing.place, missing.source_job_id, missing.new_job_id, missing.prior_job_id, missing.prior_resolved_at,
    missing.prior_resolution, pending.queue, pending.rank, pending.run_at
  from pgflow.pending
  join missing on missing.new_job_id = pending.job_id
  where exists (select from missing)
),
locked as materialized (
  select
    found.place, found.source_job_id, found.new_job_id, found.prior_job_id, found.prior_resolved_at,
    found.prior_resolution, pending.queue, pending.rank, pending.run_at
  from found
  join pgflow.pending
    on pending.queue = found.queue
    and pending.rank = found.rank
    and pending.run_at = found.run_at
    and pending.job_id = found.new_job_id
  where pending.attempt_no = 0
  order by pending.queue, pending.rank, pending.run_at, pending.job_id
  for update of pending
),
-- It has every column that later steps need: joins between CTEs without statistics would be nested loops.
removed as (
  delete from pgflow.pending
  using locked
  where pending.queue = locked.queue
    and pending.rank = locked.rank
    and pending.run_at = locked.run_at
    and pending.job_id = locked.new_job_id
  returning
    pending.queue, locked.place, locked.source_job_id, locked.new_job_id, locked.prior_job_id,
    locked.prior_resolved_at, locked.prior_resolution
),
canceled as (
  insert into pgflow.canceled_jobs (job_id, queue, canceled_by, note, action_id)
  select new_job_id, queue, %(actor)s::text, %(note)s::text, %(action_id)s::bigint
  from removed
),
reopened as (
  update pgflow.dead_letters as source
  set resolved_at = removed.prior_resolved_at,
      resolution = removed.prior_resolution,
      replay_job_id = removed.prior_job_id,
      action_id = %(action_id)s::bigint
  from removed
  where source.job_id = removed.source_job_id
    -- Unless it was replayed again.
    and source.replay_job_id = removed.new_job_id
),
marked as (
  update pgflow.replay_items as item
  set state = 'undone'
  from removed
  where item.plan_id = %(plan_id)s::bigint
    and item.place = removed.place
),
counted as (
  update pgflow.replay_plans
  set created = created - (select count(*) from removed),
      undone = undone + (select count(*) from removed)
  where id = %(plan_id)s::bigint
)
select
  coalesce(max(chunk.place), %(after_place)s::integer) as last_place,
  array(select new_job_id::text from removed order by place) as job_ids
from chunk
