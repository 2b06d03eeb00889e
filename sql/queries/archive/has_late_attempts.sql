-- Whether an attempt of a job of some day ended after some time.
select exists (
  select
  from pgflow.any_attempts
  where job_id >= %(first_id)s::uuid
    and job_id < %(end_id)s::uuid
    and finished_at >= %(since)s::timestamptz
) as found
