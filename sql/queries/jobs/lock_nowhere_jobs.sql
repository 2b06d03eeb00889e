-- Lock jobs, so that no two operators give them a place. Which are in none is decided by the next statement, with a
-- newer snapshot.
select id::text as job_id
from pgflow.jobs
where id = any(%(job_ids)s::text::uuid[])
order by id
for update
