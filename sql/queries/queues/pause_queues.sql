-- Pause queues for a time or until they are resumed: nothing is leased from them.
insert into pgflow.queue_policies (queue, paused_until, paused_by, pause_note, updated_by)
select queue, coalesce(now() + %(length)s::interval, 'infinity'), %(actor)s::text, %(note)s::text, %(actor)s::text
from unnest(%(queues)s::text[]) as named (queue)
order by queue
on conflict (queue) do update
set paused_until = excluded.paused_until,
    paused_by = excluded.paused_by,
    pause_note = excluded.pause_note,
    updated_at = now(),
    updated_by = excluded.updated_by
