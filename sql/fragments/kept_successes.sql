-- Stores `succeeded` in one row for each lease and each minute of the ids.
--
-- Usually all ids are of one minute. Then only the first and the last id are decoded: decoding an id takes a
-- microsecond.
minutes as materialized (
  select first.minute, first.minute <> last.minute as several
  from (
    select ('x' || left(replace(job_id::text, '-', ''), 12))::bit(48)::bigint / 60000 as minute
    from succeeded
    order by job_id
    limit 1
  ) as first
  cross join (
    select ('x' || left(replace(job_id::text, '-', ''), 12))::bit(48)::bigint / 60000 as minute
    from succeeded
    order by job_id desc
    limit 1
  ) as last
),
kept as (
  insert into pgflow.job_successes (
    day, first_id, lease_id, leased_at, id_times, worker_name, code_version, job_ids, attempt_nos, started_ago,
    ended_ago
  )
  select
    minute / 1440, job_ids[1], lease_id, leased_at,
    int8range(
      ('x' || left(replace(job_ids[1]::text, '-', ''), 12))::bit(48)::bigint,
      ('x' || left(replace(job_ids[cardinality(job_ids)]::text, '-', ''), 12))::bit(48)::bigint,
      '[]'
    ),
    %(worker_name)s::text, %(code_version)s::text, job_ids, attempt_nos, started_ago, ended_ago
  from (
    select
      lease_id, leased_at, minute, array_agg(job_id) as job_ids, array_agg(attempt_no) as attempt_nos,
      array_agg(started_ago) as started_ago, array_agg(ended_ago) as ended_ago
    from (
      select
        lease_id, leased_at, job_id, attempt_no, started_ago, ended_ago,
        case
          when minutes.several then ('x' || left(replace(job_id::text, '-', ''), 12))::bit(48)::bigint / 60000
          else minutes.minute
        end as minute
      from succeeded
      cross join minutes
      where leased_at is not null
      -- The arrays are in this order.
      order by lease_id, leased_at, minute, job_id
    ) as ordered
    group by lease_id, leased_at, minute
  ) as batch
  returning lease_id, job_ids
),
