-- One job as lists show it.
with looked as materialized (
  select null::timestamptz as at, %(job_id)s::uuid as id
),
-- include: listed_jobs
