-- Resume queues, and notify idle workers.
with resumed as (
  update pgflow.queue_policies
  set paused_until = null,
      paused_by = null,
      pause_note = null,
      updated_at = now(),
      updated_by = %(actor)s::text
  where queue = any(%(queues)s::text[])
    and paused_until > now()
  returning queue
)
select
  queue,
  case
    when exists (
      select from pgflow.workers
      where idle
        and not workers.quiet
        and (queues is null or resumed.queue = any(queues))
    )
      then pg_notify('pgflow', queue)
  end as told
from resumed
