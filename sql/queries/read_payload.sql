-- The payload of one job. Text: it may hold numbers that Python cannot.
select payload::text as payload
from pgflow.any_jobs
where id = %(job_id)s::uuid
