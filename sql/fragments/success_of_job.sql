-- The attempt of the job `wanted.id` that has succeeded, out of the arrays it is in; no row if none has.
select
  wanted.id as job_id, success.lease_id,
  -- Never before its lease, which may be later than the settlement if the clock has stepped.
  greatest(success.leased_at, success.settled_at - success.started_ago[entry.place] * interval '1 second') as started_at,
  greatest(
    success.leased_at, success.settled_at - success.started_ago[entry.place] * interval '1 second',
    success.settled_at - success.ended_ago[entry.place] * interval '1 second'
  ) as finished_at,
  success.attempt_nos[entry.place] as attempt_no, success.worker_name, success.code_version
from (
  select ('x' || left(replace(wanted.id::text, '-', ''), 12))::bit(48)::bigint as milliseconds
) as made
join pgflow.any_successes as success
  -- `day` selects one partition, and `id_times` the few rows that may have the job.
  on success.day = made.milliseconds / 86400000
  and success.id_times @> made.milliseconds
  and wanted.id = any(success.job_ids)
cross join lateral (select array_position(success.job_ids, wanted.id) as place) as entry
