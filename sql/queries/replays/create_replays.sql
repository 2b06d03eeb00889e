-- Create the next jobs of a plan whose items and sources are locked, and resolve these.
--
-- A payload goes from row to row and never leaves the database.
with
plan as materialized (
  select
    id, again, any_status, to_queue, priority, max_attempts, patch, max_payload_bytes, seconds_apart, action_id,
    greatest(coalesce(next_run_at, now()), now()) as first_run_at,
    pgflow.uuid7_ticks() as ticks
  from pgflow.replay_plans
  where id = %(plan_id)s::bigint
    and runner_id = %(runner_id)s::uuid
    and state = 'running'
),
chunk as materialized (
  select place, source_job_id, prior_job_id, prior_resolved_at
  from pgflow.replay_items
  -- By the parameter, not by a join with `plan`: so the index returns them in order, and only these are read.
  where plan_id = %(plan_id)s::bigint
    and state = 'waiting'
    and exists (select from plan)
  order by place
  limit %(limit)s::integer
),
dead as materialized (
  select job_id, resolved_at, resolution, replay_job_id
  from pgflow.dead_letters
  where job_id = any(array(select source_job_id from chunk))
),
sources as materialized (
  select
    chunk.place, chunk.source_job_id, chunk.prior_job_id, chunk.prior_resolved_at,
    dead.job_id is not null as is_dead, dead.resolved_at, dead.resolution, earlier.new_job_id as earlier_job_id,
    job.id is not null as is_known, job.queue, job.job_type, job.priority, job.max_attempts, job.timeout_ms,
    job.meta, job.payload
  from plan
  cross join chunk
  left join dead on dead.job_id = chunk.source_job_id
  left join lateral (
    select new_job_id
    from pgflow.replay_items
    where source_job_id = chunk.source_job_id
      and state = 'created'
      and dead.job_id is null
    order by plan_id desc
    limit 1
  ) as earlier on true
  left join lateral (
    select
      id, coalesce(plan.to_queue, queue) as queue, job_type, coalesce(plan.priority, priority) as priority,
      coalesce(plan.max_attempts, max_attempts) as max_attempts, timeout_ms, meta,
      case when plan.patch is null then payload else pgflow.merge_patch(payload, plan.patch) end as payload
    from (
      -- include: every_job
    ) as job
    where job.id = chunk.source_job_id
    offset 0
  ) as job on true
),
judged as materialized (
  select
    place, source_job_id, is_dead, sources.queue, job_type, sources.priority, sources.max_attempts, timeout_ms, meta,
    payload,
    case
      when not is_known or not (is_dead or plan.any_status) then 'GONE'
      -- Also with --again, jobs that others have resolved since the plan was made are skipped.
      when resolved_at is not null and (not plan.again or resolved_at is distinct from prior_resolved_at)
        then case resolution when 'discarded' then 'DISCARDED' else 'ALREADY_REPLAYED' end
      when earlier_job_id is not null and (not plan.again or earlier_job_id is distinct from prior_job_id)
        then 'ALREADY_REPLAYED'
      when octet_length(payload::text) > coalesce(policy.max_payload_bytes, plan.max_payload_bytes)
        then 'PAYLOAD_TOO_LARGE'
      -- A payload that was enqueued is valid; a patch may have made it invalid.
      when plan.patch is not null and pgflow.payload_problem(payload, octet_length(payload::text)) is not null
        then 'BAD_PAYLOAD'
    end as problem
  from plan
  cross join sources
  left join pgflow.queue_policies as policy on policy.queue = sources.queue
),
-- Every step below reads this one: joins between CTEs without statistics would be nested loops.
numbered as materialized (
  select
    place, source_job_id, is_dead, queue, job_type, judged.priority, judged.max_attempts, timeout_ms, meta, payload,
    problem,
    case when problem is null then pgflow.uuid7_at(plan.ticks + turn) end as new_job_id,
    plan.first_run_at + (turn - 1) * plan.seconds_apart * interval '1 second' as run_at
  from plan
  cross join (
    select
      place, source_job_id, is_dead, queue, job_type, priority, max_attempts, timeout_ms, meta, payload, problem,
      count(*) filter (where problem is null) over (order by place) as turn
    from judged
  ) as judged
),
inserted as (
  insert into pgflow.jobs (
    id, queue, job_type, payload, priority, max_attempts, run_at, timeout_ms, meta, replay_of_job_id
  )
  select
    new_job_id, queue, job_type, payload, priority, max_attempts, run_at, timeout_ms, meta, source_job_id
  from numbered
  where problem is null
),
waiting as (
  insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
  select queue, -priority, run_at, new_job_id, job_type
  from numbered
  where problem is null
),
places as materialized (
  select queue, -priority as rank, min(run_at) as run_at
  from numbered
  where problem is null
  group by queue, priority
),
-- Beyond the bound of queues, too (open_places in 0002_enqueue): it keeps producers from each other, and while one of
-- them has filled it an operator must be able to act. What is made here counts.
ranked as (
  insert into pgflow.queue_ranks (queue, rank)
  select queue, rank
  from places
  where not exists (
    select
    from pgflow.queue_ranks as known
    where known.queue = places.queue
      and known.rank = places.rank
      and not known.retired
  )
),
resolved as (
  update pgflow.dead_letters
  set resolved_at = now(),
      resolution = 'replayed',
      replay_job_id = numbered.new_job_id,
      action_id = plan.action_id
  from plan, numbered
  where dead_letters.job_id = numbered.source_job_id
    and numbered.is_dead
    and numbered.problem is null
),
marked as (
  update pgflow.replay_items as item
  set state = case
        when numbered.problem is null then 'created'
        when numbered.problem in ('ALREADY_REPLAYED', 'DISCARDED') then 'skipped'
        else 'failed'
      end,
      problem = numbered.problem,
      new_job_id = numbered.new_job_id,
      is_canary = %(canary)s::boolean and numbered.problem is null
  from numbered
  where item.plan_id = %(plan_id)s::bigint
    and item.place = numbered.place
  returning item.place, item.source_job_id::text, item.new_job_id::text, item.state, item.problem
),
advanced as (
  update pgflow.replay_plans as whole
  set created = whole.created + tally.created,
      skipped = whole.skipped + tally.skipped,
      failed = whole.failed + tally.failed,
      seen_at = now(),
      next_run_at = case
        when whole.next_run_at is not null or plan.seconds_apart > 0
          then plan.first_run_at + tally.created * plan.seconds_apart * interval '1 second'
      end
  from plan
  cross join (
    select
      count(*) filter (where problem is null) as created,
      count(*) filter (where problem in ('ALREADY_REPLAYED', 'DISCARDED')) as skipped,
      count(*) filter (where problem is not null and problem not in ('ALREADY_REPLAYED', 'DISCARDED')) as failed
    from numbered
  ) as tally
  where whole.id = plan.id
),
counted as (
  insert into pgflow.worker_counters as counter (supervisor_id, metric, queue, count)
  select '00000000-0000-0000-0000-000000000000', 'replays', queue, count(*)
  from numbered
  where problem is null
  group by queue
  -- In one order, because several plans may write these rows at the same time.
  order by queue
  on conflict (metric, queue, job_type, outcome, code, supervisor_id) do update
  set count = counter.count + excluded.count
),
-- Only idle workers are told, as by pgflow.enqueue.
told as (
  select pg_notify('pgflow', due.queue)
  from (
    select distinct queue
    from places
    where run_at <= now()
  ) as due
  where exists (
    select
    from pgflow.workers
    where idle
      and not quiet
      and (queues is null or due.queue = any(queues))
  )
)
select source_job_id, new_job_id, state, problem, (select count(*) from told) as told
from marked
order by place
