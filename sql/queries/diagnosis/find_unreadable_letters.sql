-- Count open dead letters whose job's row cannot be read, and name one.
select count(*) as letters, (min(job_id::text)) as job_id
from pgflow.dead_letters
where resolved_at is null
  and dlq_reason_code = 'UNREADABLE'
