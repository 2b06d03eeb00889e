-- Lock dead letters that were resolved before some time, the oldest few. Whether they still are is decided by the next
-- statement, with a newer snapshot.
select job_id::text
from pgflow.dead_letters
where resolved_at < %(before)s::text::timestamptz
order by resolved_at, job_id
limit %(limit)s::integer
-- Somebody replays it again: its turn comes when that is over.
for update skip locked
