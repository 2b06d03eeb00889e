-- The attempts of one job in order: all, or the first one and the newest of the rest.
with numbered as (
  select
    attempt_no, status, started_at, finished_at, next_run_at, worker_name, error_code, error_message, code_version,
    row_number() over (order by attempt_no) as place,
    row_number() over (order by attempt_no desc) as place_from_end
  from (select %(job_id)s::uuid as id) as wanted
  cross join lateral (
    -- include: attempts_of_job
  ) as attempt
)
select
  numbered.attempt_no,
  numbered.status,
  coalesce(
    to_char(numbered.started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), numbered.started_at::text
  ) as started_at,
  coalesce(
    to_char(numbered.finished_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), numbered.finished_at::text
  ) as finished_at,
  round((date_part('epoch', numbered.finished_at) - date_part('epoch', numbered.started_at))::numeric * 1000, 3)::float8
    as latency_ms,
  date_part('epoch', numbered.next_run_at) - date_part('epoch', numbered.finished_at) as next_in,
  numbered.worker_name as worker_id,
  numbered.error_code,
  numbered.error_message,
  advice.suggested_action,
  numbered.code_version
from numbered
left join pgflow.error_codes as advice on advice.code = numbered.error_code
where %(shown)s::integer is null
  or numbered.place_from_end < greatest(%(shown)s::integer, 2)
  or (numbered.place = 1 and %(shown)s::integer > 1)
order by numbered.attempt_no
