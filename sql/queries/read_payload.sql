-- The payload of one job. Text: it may hold numbers that Python cannot. JSON's null where its row cannot be read.
select case when pgflow.why_unreadable(id) is null then payload::text else 'null' end as payload
from pgflow.any_jobs
where id = %(job_id)s::uuid
