-- What a person asks in psql: where a job is, and how its attempts ended.
--
-- Made to answer for one id: everything is looked up by a key, and only where the places before it did not have the
-- answer. Lists begin with the table of the status that they ask for.
create view pgflow.job_overview as
select
  jobs.id,
  jobs.queue,
  jobs.job_type,
  place.status,
  coalesce(waiting.run_at, jobs.run_at) as run_at,
  jobs.priority,
  jobs.max_attempts,
  coalesce(dead.error_code, failure.error_code) as last_error_code,
  coalesce(dead.error_message, failure.error_message) as last_error_message,
  dead.dlq_reason_code,
  jobs.created_at,
  greatest(
    jobs.created_at, last.finished_at, held.leased_at, dead.died_at, dead.resolved_at, canceled.canceled_at
  ) as updated_at,
  right(jobs.id::text, 8) as short_id,
  coalesce(held.attempt_no, last.attempt_no, 0) as attempt_no,
  dead.died_at as dlq_at,
  coalesce(dead.error_fingerprint, failure.error_fingerprint) as fingerprint,
  dead.resolved_at,
  jobs.replay_of_job_id,
  coalesce(held.worker_name, last.worker_name) as worker_id,  -- its name: what --worker-id sets
  held.expires_at as lease_expires_at
from pgflow.jobs
left join lateral (
  select attempt_no, status, worker_name, finished_at, next_run_at
  from pgflow.job_attempts
  where job_id = jobs.id
  order by attempt_no desc
  limit 1
) as last on true
left join lateral (
  select error_code, error_message, error_fingerprint
  from pgflow.job_attempts
  where job_id = jobs.id
    and error_code is not null
  order by attempt_no desc
  limit 1
) as failure on true
left join pgflow.dead_letters as dead on dead.job_id = jobs.id
left join pgflow.canceled_jobs as canceled on canceled.job_id = jobs.id
-- By its key, which the last attempt knows. A job without attempts waits where its producer put it.
left join lateral (
  select pending.run_at
  from pgflow.queue_ranks as ranks
  join pgflow.pending
    on pending.queue = ranks.queue
    and pending.rank = ranks.rank
    and pending.run_at = coalesce(last.next_run_at, jobs.run_at)
    and pending.job_id = jobs.id
  where ranks.queue = jobs.queue
    and last.status is distinct from 'succeeded'
    and dead.job_id is null
    and canceled.job_id is null
  limit 1
) as keyed on true
left join lateral (
  select leases.worker_name, leases.leased_at, leases.expires_at, entry.attempt_no
  from pgflow.leases
  cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
  where leases.job_ids @> array[jobs.id]
    and entry.job_id = jobs.id
    -- A settled job stays in its lease's arrays until the next heartbeat.
    and entry.attempt_no > coalesce(last.attempt_no, 0)
    and keyed.run_at is null
    and last.status is distinct from 'succeeded'
    and dead.job_id is null
    and canceled.job_id is null
  limit 1
) as held on true
-- Whoever moves a pending job by hand leaves no trace of its key: then it is searched for, and only then.
left join lateral (
  select keyed.run_at
  where keyed.run_at is not null
  union all
  select pending.run_at
  from pgflow.pending
  where pending.job_id = jobs.id
    and keyed.run_at is null
    and held.expires_at is null
    and last.status is distinct from 'succeeded'
    and dead.job_id is null
    and canceled.job_id is null
  limit 1
) as waiting on true
cross join lateral (
  select case
    when canceled.job_id is not null then 'canceled'
    when dead.job_id is not null then 'dlq'
    when last.status = 'succeeded' then 'succeeded'
    when held.expires_at is not null then 'running'
    when waiting.run_at > now() then 'scheduled'
    when waiting.run_at is not null then 'queued'
  end as status
) as place;

-- Why the row of a job, or what is known of its attempts, cannot be given to a worker; null if it can. Everything that a
-- lease reads is read, and written in the client's encoding; what comes of it ends here. A damaged page or a byte that is
-- no character are the row's own affair; a lack of memory or a lost disk are the server's, and pass through.
create function pgflow.why_unreadable(wanted uuid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  written constant name := current_setting('client_encoding');
begin
  perform
    -- Back again, too: where no conversion is needed, only that looks at the bytes.
    convert_from(convert_to(payload::text, written), written), convert_from(convert_to(meta::text, written), written),
    max_attempts, timeout_ms, replay_of_job_id
  from pgflow.jobs
  where id = wanted;
  perform count(*) filter (where status in ('failed', 'lost'))
  from pgflow.job_attempts
  where job_id = wanted;
  return null;
exception
  when data_exception or internal_error or data_corrupted or index_corrupted then
    return sqlstate || ': ' || sqlerrm;
end
$$;
