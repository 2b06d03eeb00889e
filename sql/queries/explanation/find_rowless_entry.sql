-- Find the entry of a job whose own row is gone: its queue and since or until when it waits. It reads all of `pending`,
-- which has no index on ids alone.
select
  queue,
  to_char(run_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as run_at
from pgflow.pending
where job_id = %(job_id)s::uuid
limit 1
