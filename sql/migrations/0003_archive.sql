-- The archive: jobs move here some time after they succeeded, with their attempts. And views that read a job in any
-- table.
--
-- The tables are made like those they take from, and partitioned by the same days: a day whose jobs are done changes
-- hands as a whole. A column that is added to one of them is added to its archive.
create table pgflow.jobs_archive (like pgflow.jobs including all) partition by range (id);
create table pgflow.job_attempts_archive (like pgflow.job_attempts including all) partition by range (job_id);
create table pgflow.job_successes_archive (like pgflow.job_successes including all) partition by range (day);

-- For days that have no partition of their own: ids that a producer made long ago.
create table pgflow.jobs_archive_default partition of pgflow.jobs_archive default;
create table pgflow.job_attempts_archive_default partition of pgflow.job_attempts_archive default;
create table pgflow.job_successes_archive_default partition of pgflow.job_successes_archive default;
alter table pgflow.job_successes_archive_default set (toast_tuple_target = 8160);

-- Up to which id jobs have been archived and pruned. No job with a greater id is in the archive, and none has been
-- pruned: enqueue looks no further for ids of today. Written by `maintain`, with what it moves or removes.
create table pgflow.history_marks (
  only_row boolean primary key default true,
  archived_until uuid not null default '00000000-0000-0000-0000-000000000000',
  pruned_until uuid not null default '00000000-0000-0000-0000-000000000000',
  constraint there_is_one_row check (only_row)
);

insert into pgflow.history_marks default values;

create function pgflow.pruned_problem(pruned_until uuid) returns text
language sql stable parallel safe
return format(
  'job_id is of a time before %s, whose jobs have been pruned, so it may have run already; use a new id',
  to_char(
    -- Its first 48 bits are milliseconds.
    to_timestamp(('x' || left(replace(pruned_until::text, '-', ''), 12))::bit(48)::bigint / 1000.0) at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS"Z"'
  )
);
revoke execute on function pgflow.pruned_problem(uuid) from public;

-- The least UUIDv7 of an instant: its first 48 bits are milliseconds.
create function pgflow.least_id(at timestamptz) returns uuid
language sql immutable strict parallel safe
return rpad(lpad(to_hex(greatest(floor(date_part('epoch', at) * 1000)::bigint, 0)), 12, '0'), 32, '0')::uuid;
revoke execute on function pgflow.least_id(timestamptz) from public;

-- A job in any table: statements read jobs by id from this view.
create view pgflow.any_jobs as
select
  id, run_at, created_at, replay_of_job_id, timeout_ms, max_attempts, priority, queue, job_type, payload, meta,
  false as archived
from pgflow.jobs
union all
select
  id, run_at, created_at, replay_of_job_id, timeout_ms, max_attempts, priority, queue, job_type, payload, meta,
  true
from pgflow.jobs_archive;

-- Successes, a row for each statement that settled some of a lease.
create view pgflow.any_successes as
select
  day, first_id, lease_id, leased_at, settled_at, id_times, worker_name, code_version, job_ids, attempt_nos,
  started_ago, ended_ago
from pgflow.job_successes
union all
select
  day, first_id, lease_id, leased_at, settled_at, id_times, worker_name, code_version, job_ids, attempt_nos,
  started_ago, ended_ago
from pgflow.job_successes_archive;

-- All attempts of all jobs. What asks for those of one job takes sql/fragments/attempts_of_job.sql, which finds the
-- arrays that it is in.
create view pgflow.any_attempts as
select
  job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status, worker_name, error_code, error_message,
  error_fingerprint, code_version
from pgflow.job_attempts
union all
select
  job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status, worker_name, error_code, error_message,
  error_fingerprint, code_version
from pgflow.job_attempts_archive
union all
select
  entry.job_id, success.lease_id,
  -- Never before its lease, which may be later than the settlement if the clock has stepped.
  greatest(success.leased_at, success.settled_at - entry.started_ago * interval '1 second'),
  greatest(
    success.leased_at, success.settled_at - entry.started_ago * interval '1 second',
    success.settled_at - entry.ended_ago * interval '1 second'
  ),
  null, entry.attempt_no, 'succeeded', success.worker_name, null, null, null, success.code_version
from pgflow.any_successes as success
cross join lateral unnest(
  success.job_ids, success.attempt_nos, success.started_ago, success.ended_ago
) as entry (job_id, attempt_no, started_ago, ended_ago);

-- A view for people in psql: the state of a job, and how its attempts ended.
--
-- Made to answer for one id: everything is looked up by a key, and only where the places before it did not have the
-- answer. Lists begin with the table of the status that they ask for. What is archived has succeeded, unless it was
-- discarded.
create view pgflow.job_overview as
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
from pgflow.any_jobs as jobs
left join lateral (
  select attempt_no, status, worker_name, finished_at, next_run_at
  from (
    -- As in sql/fragments/attempts_of_job.sql.
    select attempt_no, status, worker_name, finished_at, next_run_at
    from pgflow.job_attempts
    where job_id = jobs.id
    union all
    select attempt_no, status, worker_name, finished_at, next_run_at
    from pgflow.job_attempts_archive
    where job_id = jobs.id
    union all
    select
      success.attempt_nos[entry.place], 'succeeded', success.worker_name,
      greatest(
        success.leased_at, success.settled_at - success.started_ago[entry.place] * interval '1 second',
        success.settled_at - success.ended_ago[entry.place] * interval '1 second'
      ),
      null
    from (
      select ('x' || left(replace(jobs.id::text, '-', ''), 12))::bit(48)::bigint as milliseconds
    ) as made
    join pgflow.any_successes as success
      on success.day = made.milliseconds / 86400000
      and success.id_times @> made.milliseconds
      and jobs.id = any(success.job_ids)
    cross join lateral (select array_position(success.job_ids, jobs.id) as place) as entry
  ) as attempt
  order by attempt_no desc
  limit 1
) as last on true
left join lateral (
  select error_code, error_message, error_fingerprint
  from (
    select attempt_no, error_code, error_message, error_fingerprint
    from pgflow.job_attempts
    where job_id = jobs.id
    union all
    select attempt_no, error_code, error_message, error_fingerprint
    from pgflow.job_attempts_archive
    where job_id = jobs.id
  ) as attempt
  where error_code is not null
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
    and entry.attempt_no > coalesce(last.attempt_no, 0)
    and keyed.run_at is null
    and last.status is distinct from 'succeeded'
    and dead.job_id is null
    and canceled.job_id is null
  limit 1
) as held on true
-- A pending job that was moved without pgflow left no record of its key: only then it is searched for.
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
    -- Only succeeded jobs are archived.
    when last.status = 'succeeded' or jobs.archived then 'succeeded'
    when held.expires_at is not null then 'running'
    when waiting.run_at > now() then 'scheduled'
    when waiting.run_at is not null then 'queued'
  end as status
) as place;
