-- How many other jobs died of the same error, counted up to a limit, and when and with what version it was first seen.
with first as (
  select seen.finished_at, seen.code_version
  from (
    select job_id, died_at, code_version
    from pgflow.dead_letters
    where error_fingerprint = %(fingerprint)s::text
    order by died_at
    -- The first dead letter need not have failed first, but is among the first.
    limit 20
  ) as dead
  cross join lateral (
    (
      select finished_at, code_version
      from pgflow.job_attempts
      where job_id = dead.job_id
        and error_fingerprint = %(fingerprint)s::text
      order by attempt_no
      limit 1
    )
    union all
    select dead.died_at, dead.code_version
  ) as seen
  order by seen.finished_at
  limit 1
)
select
  (
    select count(*)
    from (
      select
      from pgflow.dead_letters
      where error_fingerprint = %(fingerprint)s::text
        and died_at >= now() - %(window)s::float8 * interval '1 second'
        and job_id <> %(job_id)s::uuid
      limit %(limit)s::integer + 1
    ) as recent
  ) as recent,
  (
    select count(*)
    from (
      select
      from pgflow.dead_letters
      where error_fingerprint = %(fingerprint)s::text
        and job_id <> %(job_id)s::uuid
      limit %(limit)s::integer + 1
    ) as every
  ) as total,
  %(window)s::float8 as window_seconds,
  (select to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') from first) as first_seen_at,
  (select code_version from first) as first_code_version
