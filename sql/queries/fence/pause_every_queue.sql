-- Pause every queue until it is resumed; a pause without an end keeps its note.
insert into pgflow.queue_policies (queue, paused_until, paused_by, pause_note, updated_by)
select queue, 'infinity', %(actor)s::text, %(note)s::text, %(actor)s::text
from (
  select queue
  from pgflow.places
  union
  select queue
  from pgflow.queue_policies
) as known
order by queue
on conflict (queue) do update
set paused_until = excluded.paused_until,
    paused_by = excluded.paused_by,
    pause_note = excluded.pause_note,
    updated_by = excluded.updated_by,
    updated_at = now()
where queue_policies.paused_until is distinct from 'infinity'
returning queue
