-- The newest actions of operators on a job, and on its whole queue or the whole database while the job existed.
--
-- `own`: it touched this very job. A job beyond the first thousand of an action is found by the action's number.
select
  id,
  to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at,
  actor,
  action,
  note,
  command,
  own
from (
  select action.id, action.at, action.actor, action.action, action.note, action.command, found.own
  from (
    select id, bool_or(own) as own
    from (
      select id, true as own
      from pgflow.operator_actions
      where job_ids @> array[%(job_id)s::uuid]
      union all
      select id, true
      from pgflow.operator_actions
      where id = any(%(action_ids)s::bigint[])
      union all
      select id, false
      from pgflow.operator_actions
      where at between %(since)s::timestamptz and coalesce(%(until)s::timestamptz, now())
        and (
          split_part(action, '.', 1) in ('fence', 'restore')
          or (
            split_part(action, '.', 1) = 'queues'
            and action <> 'queues.purge'
            and (queue = %(queue)s::text or details_json -> 'queues' ? %(queue)s::text)
          )
        )
    ) as every
    group by id
  ) as found
  join pgflow.operator_actions as action using (id)
  order by action.at desc, action.id desc
  limit %(limit)s::integer
) as newest
order by newest.at, newest.id
