-- Payload and meta of one job, as text: they may hold numbers that Python cannot represent. JSON's null where its row
-- cannot be read.
select
  case when readable then payload::text else 'null' end as payload,
  case when readable then meta::text end as meta
from (
  select payload, meta, pgflow.why_unreadable(id) is null as readable
  from pgflow.jobs
  where id = %(job_id)s::uuid
  offset 0
) as job
