-- Lock the oldest dead letters that were resolved before a time. Whether they still are is decided by the next
-- statement, with a newer snapshot.
select job_id::text
from pgflow.dead_letters
where resolved_at < %(before)s::text::timestamptz
order by resolved_at, job_id
limit %(limit)s::integer
-- Skipped if another session replays it again: a later pass removes it.
for update skip locked
