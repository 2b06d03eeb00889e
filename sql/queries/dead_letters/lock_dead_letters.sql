-- Lock some dead letters. Which are open is decided by the next statement, with a newer snapshot.
select job_id::text
from pgflow.dead_letters
where job_id = any(%(job_ids)s::uuid[])
order by job_id
for update
