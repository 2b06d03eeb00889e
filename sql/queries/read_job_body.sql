-- What one job carries. Text: it may hold numbers that Python cannot.
select payload::text as payload, meta::text as meta
from pgflow.jobs
where id = %(job_id)s::uuid
