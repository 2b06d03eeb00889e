-- Takes the successes of `forgotten` jobs out of the rows that they are in; a row goes with the last of its jobs.
rest as materialized (
  select
    success.day, success.first_id,
    array_agg(entry.job_id order by entry.place) filter (where keeps.it) as job_ids,
    array_agg(entry.attempt_no order by entry.place) filter (where keeps.it) as attempt_nos,
    array_agg(entry.started_ago order by entry.place) filter (where keeps.it) as started_ago,
    array_agg(entry.ended_ago order by entry.place) filter (where keeps.it) as ended_ago
  from pgflow.job_successes as success
  cross join lateral unnest(
    success.job_ids, success.attempt_nos, success.started_ago, success.ended_ago
  ) with ordinality as entry (job_id, attempt_no, started_ago, ended_ago, place)
  -- This form is hashed: there may be as many ids as a dump has jobs.
  cross join lateral (select entry.job_id not in (select id from forgotten) as it) as keeps
  group by success.day, success.first_id
  having not bool_and(keeps.it)
),
shrunk as (
  update pgflow.job_successes as success
  set job_ids = rest.job_ids,
      attempt_nos = rest.attempt_nos,
      started_ago = rest.started_ago,
      ended_ago = rest.ended_ago
  from rest
  where (success.day, success.first_id) = (rest.day, rest.first_id)
    and rest.job_ids is not null
),
emptied as (
  delete from pgflow.job_successes as success
  using rest
  where (success.day, success.first_id) = (rest.day, rest.first_id)
    and rest.job_ids is null
),
