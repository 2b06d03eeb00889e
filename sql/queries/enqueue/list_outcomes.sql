-- How jobs have ended; those that have not are left out.
select wanted.id::text as job_id, ended.status, ended.error_code
from unnest(%(job_ids)s::text::uuid[]) as wanted (id)
cross join lateral (
  -- include: outcome
) as ended
