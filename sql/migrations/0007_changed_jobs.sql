-- Waiting jobs that an operator has moved, and running ones that an operator has canceled.

-- Where an operator has put a waiting job. `pending` is found by its key, and that has changed: an index on its job_id
-- would cost every enqueue and every lease, this costs the operator. run_at counts until the next attempt; the rank is
-- the job's own from now on, whatever its attempts do. A row may stay after its job has ended: it says nothing then.
create table pgflow.moved_jobs (
  job_id uuid primary key,
  run_at timestamptz not null,
  attempt_no integer not null,  -- attempts numbered when it was moved
  rank smallint not null
);

-- The lease under which a job ran when it was canceled: so its worker learns of it with the next heartbeat.
alter table pgflow.canceled_jobs add column lease_id uuid;
create index canceled_jobs_of_lease on pgflow.canceled_jobs (lease_id) where lease_id is not null;

-- As before, but for the four places that name `moved`.
create or replace view pgflow.job_overview as
select
  jobs.id,
  jobs.queue,
  jobs.job_type,
  place.status,
  coalesce(waiting.run_at, moved.run_at, jobs.run_at) as run_at,
  coalesce(-moved.rank, jobs.priority) as priority,
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
left join pgflow.moved_jobs as moved on moved.job_id = jobs.id
-- By its key: where an operator has put it since its last attempt, else where that attempt did, else its producer.
left join lateral (
  select pending.run_at
  from pgflow.queue_ranks as ranks
  join pgflow.pending
    on pending.queue = ranks.queue
    and pending.rank = ranks.rank
    and pending.run_at = coalesce(
      case when moved.attempt_no = coalesce(last.attempt_no, 0) then moved.run_at end, last.next_run_at, jobs.run_at
    )
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
-- Whoever moves a pending job without pgflow leaves no trace of its key: then it is searched for, and only then.
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
