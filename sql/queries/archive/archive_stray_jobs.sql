-- Move succeeded jobs to the archive that have no day of their own, the next few after an id.
with looked as materialized (
  select job_id, finished_at
  from pgflow.job_attempts_default
  where status = 'succeeded'
    and job_id > %(after)s::uuid
    and job_id >= %(first_id)s::uuid
    and job_id < %(end_id)s::uuid
  order by job_id
  limit %(limit)s::integer
),
-- include: move_to_archive
