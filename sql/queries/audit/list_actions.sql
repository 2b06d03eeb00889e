-- The actions of operators, the newest first.
select
  action.id::text as id,
  action.at as created_at,
  action.actor,
  action.role,
  action.action,
  action.queue,
  action.jobs,
  case when action.finished_at is null then 'unfinished' else 'done' end as state,
  action.finished_at,
  action.note,
  action.plan_id,
  action.command,
  action.details_json
from pgflow.operator_actions as action
where (%(queues)s::text[] is null or action.queue = any(%(queues)s::text[]))
  and (%(actor)s::text is null or action.actor = %(actor)s::text)
  -- A whole action, or the group that it belongs to.
  and (
    %(action)s::text is null
    or action.action = %(action)s::text
    or starts_with(action.action, concat(%(action)s::text, '.'))
  )
  and action.at >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
  and action.at < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval, 'infinity')
  and (
    %(after_at)s::timestamptz is null
    or (action.at, action.id) < (%(after_at)s::timestamptz, %(after_id)s::bigint)
  )
order by action.at desc, action.id desc
limit %(limit)s::integer
