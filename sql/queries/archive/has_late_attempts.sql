-- Whether an attempt of a job of the day ended after a time.
select exists (
  select
  from pgflow.job_attempts
  where job_id >= %(first_id)s::uuid
    and job_id < %(end_id)s::uuid
    and finished_at >= %(since)s::timestamptz
  union all
  select
  from pgflow.job_attempts_archive
  where job_id >= %(first_id)s::uuid
    and job_id < %(end_id)s::uuid
    and finished_at >= %(since)s::timestamptz
  union all
  select
  from pgflow.any_successes
  where day = to_date(%(day)s::text, 'YYYYMMDD') - date '1970-01-01'
    and settled_at >= %(since)s::timestamptz
) as found
