-- Jobs of a day that are not archived, up to a limit.
select id::text as job_id
from pgflow.jobs
where id >= %(first_id)s::uuid
  and id < %(end_id)s::uuid
order by id
limit %(limit)s::integer
