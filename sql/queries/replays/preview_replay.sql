-- What a replay of given jobs would create, by queue and job type, with the limits that apply there.
select
  created.queue,
  created.job_type,
  count(*) as jobs,
  date_part('epoch', now()) - date_part('epoch', min(created.at)) as oldest_seconds,
  date_part('epoch', now()) - date_part('epoch', max(created.at)) as newest_seconds,
  min(created.priority)::integer as least_priority,
  max(created.priority)::integer as most_priority,
  min(created.max_attempts) as least_attempts,
  max(created.max_attempts) as most_attempts,
  count(*) filter (
    where created.bytes > coalesce(policy.max_payload_bytes, %(max_payload_bytes)s::integer)
  ) as too_large,
  policy.max_in_flight,
  policy.max_attempts_per_minute,
  coalesce(gate.paused, false) as paused
from (
  select
    coalesce(%(to_queue)s::text, job.queue) as queue,
    job.job_type,
    coalesce(dead.died_at, job.created_at) as at,
    coalesce(%(priority)s::smallint, job.priority) as priority,
    coalesce(%(max_attempts)s::integer, job.max_attempts) as max_attempts,
    job.bytes
  from unnest(%(job_ids)s::uuid[]) as wanted (id)
  left join pgflow.dead_letters as dead on dead.job_id = wanted.id
  cross join lateral (
    select
      queue, job_type, created_at, priority, max_attempts,
      octet_length(
        case when %(patch)s::jsonb is null then payload else pgflow.merge_patch(payload, %(patch)s::jsonb) end::text
      ) as bytes
    from (
      -- include: every_job
    ) as job
    where job.id = wanted.id
    -- Without this the planner may hash-join, and read every partition.
    offset 0
  ) as job
) as created
left join pgflow.queue_policies as policy on policy.queue = created.queue
left join pgflow.queue_gates as gate on gate.queue = created.queue
group by
  created.queue, created.job_type, policy.max_in_flight, policy.max_attempts_per_minute, gate.paused
order by jobs desc, created.queue, created.job_type
