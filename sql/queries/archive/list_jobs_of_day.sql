-- Jobs of a day that are not archived; no more than some.
select id::text as job_id
from pgflow.jobs
where id >= %(first_id)s::uuid
  and id < %(end_id)s::uuid
order by id
limit %(limit)s::integer
