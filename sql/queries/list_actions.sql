-- What operators did, the latest first. Unfinished: it still runs, or was ended half-way.
select
  id, at, actor, action, queue, jobs,
  case when finished_at is null then 'unfinished' else 'done' end as state,
  note, role, command, finished_at, plan_id, details_json
from pgflow.operator_actions
where at >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
  and at < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval, 'infinity')
  and (at, id) < (coalesce(%(after_at)s::timestamptz, 'infinity'), coalesce(%(after_id)s::bigint, 0))
  and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
  and (%(actor)s::text is null or actor = %(actor)s::text)
  and (%(action)s::text is null or starts_with(action, %(action)s::text))
  and (
    %(job_id)s::uuid is null
    or job_ids @> array[%(job_id)s::uuid]
    -- An action names its first thousand jobs; the others name it.
    or id in (
      select action_id
      from pgflow.canceled_jobs
      where canceled_jobs.job_id = %(job_id)s::uuid
      union all
      select action_id
      from pgflow.dead_letters
      where dead_letters.job_id = %(job_id)s::uuid
    )
  )
order by at desc, id desc
limit %(limit)s::integer
