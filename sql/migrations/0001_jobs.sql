-- Jobs: where each of them is, and how its attempts ended.
--
-- A job's state is the table its id stands in: `pending`, `leases`, `job_successes`, `dead_letters` or `canceled_jobs`.
-- There are no foreign keys on the hot path; sql/queries/diagnosis/audit_jobs.sql is what replaces them.

revoke all on schema pgflow from public;

-- Written once at enqueue, never updated. Fixed-width columns stand first: no padding.
create table pgflow.jobs (
  id uuid not null,  -- UUIDv7: its first 48 bits are the milliseconds that choose the partition
  run_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  replay_of_job_id uuid,
  timeout_ms bigint,  -- for one attempt; null: the handler's own
  max_attempts integer not null default 25,
  priority smallint not null default 0,
  queue text not null,
  job_type text not null,
  payload jsonb not null,
  meta jsonb,
  primary key (id),
  -- The length apart from the expression: a bounded repetition, {0,62}, makes each match ten times as slow.
  constraint queue_is_a_short_ascii_name check (
    octet_length(queue) <= 63 and queue ~ '^[A-Za-z0-9][A-Za-z0-9_.-]*$'
  ),
  constraint job_type_is_a_short_ascii_name check (
    octet_length(job_type) <= 128 and job_type ~ '^[A-Za-z0-9][A-Za-z0-9_.:-]*$'
  ),
  constraint priority_is_in_range check (priority between -100 and 100),
  constraint max_attempts_is_positive check (max_attempts between 1 and 10000),
  constraint timeout_is_positive check (timeout_ms between 1 and 2592000000),
  constraint run_at_is_finite check (
    isfinite(run_at) and run_at >= '2000-01-01 00:00:00+00' and run_at < '9999-01-01 00:00:00+00'
  ),
  -- Measured on the text, because numbers expand: 75 kB of [1e131071, …] stored in 2 kB print as more than 1 GB, and
  -- pg_dump of the table fails. A queue's own limit lies below this ceiling.
  constraint payload_is_bounded_after_expansion check (octet_length(payload::text) <= 16777216),
  constraint meta_is_an_object check (jsonb_typeof(meta) = 'object')
) partition by range (id);

-- How an attempt ended that did not succeed. Append-only; written once, when it settles or is reaped.
create table pgflow.job_attempts (
  job_id uuid not null,
  lease_id uuid not null,  -- a settlement that is sent again recognises its own row by it
  started_at timestamptz not null,
  finished_at timestamptz not null default now(),
  next_run_at timestamptz,  -- where the job went back to pending, exactly
  attempt_no integer not null,
  status text not null,
  worker_name text not null,
  error_code text,
  error_message text,
  error_fingerprint text,
  code_version text,
  primary key (job_id, attempt_no),
  constraint status_is_known check (
    status in ('failed', 'snoozed', 'released', 'lost', 'canceled')
  ),
  constraint attempt_no_is_positive check (attempt_no > 0),
  constraint duration_is_not_negative check (finished_at >= started_at)
) partition by range (job_id);

create index job_attempts_by_time on pgflow.job_attempts using brin (finished_at);

-- Attempts that have succeeded: as arrays in a row for those that one statement settled of one lease. They are nearly
-- all there is, and a row for each took half again as long and twice the WAL. Append-only.
--
-- All ids of a row are of one minute. So it goes with the partitions of its jobs, which are days; and a job that ran
-- late does not widen the row of others. Where one job is meant, its row is found by `day`, by `id_times` and by
-- `job_ids`: sql/fragments/success_of_job.sql.
create table pgflow.job_successes (
  first_id uuid not null,  -- the least of job_ids, which are in order
  lease_id uuid not null,  -- a settlement that is sent again recognises its own row by it
  leased_at timestamptz not null,
  settled_at timestamptz not null default now(),
  day integer not null,  -- since 1970, in UTC, by the milliseconds of the ids
  worker_name text not null,
  code_version text,
  id_times int8range not null,  -- the milliseconds of the first and the last id
  job_ids uuid[] not null,
  attempt_nos integer[] not null,
  -- Seconds before settled_at, to seven digits.
  started_ago real[] not null,
  ended_ago real[] not null,
  primary key (day, first_id),
  constraint arrays_are_parallel check (
    cardinality(job_ids) > 0
    and cardinality(job_ids) = cardinality(attempt_nos)
    and cardinality(job_ids) = cardinality(started_ago)
    and cardinality(job_ids) = cardinality(ended_ago)
  )
) partition by range (day);

create index job_successes_by_id on pgflow.job_successes using gist (id_times);
create index job_successes_by_time on pgflow.job_successes using brin (settled_at);

create table pgflow.jobs_default partition of pgflow.jobs default;
create table pgflow.job_attempts_default partition of pgflow.job_attempts default;
create table pgflow.job_successes_default partition of pgflow.job_successes default;
-- 256 jobs are 7 kB: kept in the row, neither compressed nor moved out. Partitions are made like this one.
alter table pgflow.job_successes_default set (toast_tuple_target = 8160);

-- Waits for a worker. Narrow, because it is deleted at lease. job_type stands here so that a worker can pass over types
-- it has no handler for without reading jobs.
create table pgflow.pending (
  run_at timestamptz not null,
  job_id uuid not null,
  attempt_no integer not null default 0,  -- attempts numbered so far
  rank smallint not null,  -- minus the priority: one ascending index serves high priority first
  queue text not null,
  job_type text not null,
  constraint pending_due primary key (queue, rank, run_at, job_id),
  -- An entry with values beyond a lease's arithmetic would stop its queue. One check for all columns, because
  -- PostgreSQL prepares each check again for each statement; none on jobs, leases and job_attempts, whose readers
  -- accept any instant.
  constraint run_at_and_attempt_no_are_in_range check (
    run_at >= '2000-01-01 00:00:00+00' and run_at < '9999-01-01 00:00:00+00'
    and attempt_no between 0 and 1000000000
  )
) with (
  -- Rows live for seconds, and their dead index entries are at the front, where the next lease scans.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 1000000,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 50000,
  autovacuum_vacuum_cost_delay = 0
);

-- Where an operator has put a waiting job. `pending` is found by its key, and that has changed: an index on its job_id
-- would cost every enqueue and every lease, this costs the operator. run_at counts until the next attempt; the rank is
-- the job's own from now on, whatever its attempts do. A row may stay after its job has ended: it says nothing then.
create table pgflow.moved_jobs (
  job_id uuid primary key,
  run_at timestamptz not null,
  attempt_no integer not null,  -- attempts numbered when it was moved
  rank smallint not null,
  constraint run_at_lies_between_2000_and_9998 check (
    run_at >= '2000-01-01 00:00:00+00' and run_at < '9999-01-01 00:00:00+00'
  ),
  constraint rank_is_in_range check (rank between -100 and 100)
);

-- Each queue and rank in use: what a lease scans, and the list of queues. Several rows may say the same: a unique key
-- would let the first job of a queue wait for whichever open transaction brought its first job, too.
--
-- An entry of `pending` needs a row of its place, so none is deleted that a transaction may have relied on: `maintain`
-- retires it, waits for the transactions that may not know, and deletes it then. Leases scan a retired one; enqueue
-- takes it for missing.
create table pgflow.queue_ranks (
  queue text not null,
  rank smallint not null,
  used_at timestamptz not null default now(),  -- as `maintain` last saw, give or take an hour
  retired boolean not null default false,
  id uuid primary key default gen_random_uuid(),
  -- The transaction, whatever its savepoints (xmin may be of one of those): enqueue counts what it has added itself.
  opened_by xid8 not null default pg_current_xact_id(),
  constraint used_at_lies_between_2000_and_9998 check (
    used_at >= '2000-01-01 00:00:00+00' and used_at < '9999-01-01 00:00:00+00'
  )
);

create index queue_ranks_by_place on pgflow.queue_ranks (queue, rank);

create view pgflow.places as
select distinct queue, rank
from pgflow.queue_ranks;

-- Limits for all producers of a database. Each priority of a queue counts.
create table pgflow.gate_limits (
  only_row boolean primary key default true,
  max_queues integer not null default 1000,
  constraint there_is_one_row check (only_row),
  constraint max_queues_is_in_range check (max_queues between 1 and 100000)
);

insert into pgflow.gate_limits default values;

-- One row for each batch of jobs that a worker holds. The row is the fence: an outcome counts while it names the job,
-- and what records the outcome takes the job out of it.
create table pgflow.leases (
  -- Random: a counter would repeat after a restore or a failover and let a zombie through.
  lease_id uuid primary key default gen_random_uuid(),
  batch_id uuid not null,  -- named by the worker, so that it can give back a batch whose reply it never saw
  worker_id uuid not null,
  leased_at timestamptz not null default now(),
  expires_at timestamptz not null,
  queue text not null,
  worker_name text not null,
  job_ids uuid[] not null,
  attempt_nos integer[] not null,
  progress jsonb,  -- job id -> [done, total], as its handler last reported
  constraint arrays_are_parallel check (cardinality(job_ids) = cardinality(attempt_nos))
) with (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0,
  -- 256 jobs are 5 kB: kept in the row, neither compressed nor moved out.
  toast_tuple_target = 8160
);

-- A dead letter: a job that runs again only if an operator replays it. Updated once, when an operator resolves it.
create table pgflow.dead_letters (
  job_id uuid primary key,
  died_at timestamptz not null default now(),
  resolved_at timestamptz,
  replay_job_id uuid,
  attempt_no integer not null,
  failed_attempts integer not null,
  queue text not null,
  job_type text not null,
  dlq_reason_code text not null,
  error_code text,
  error_message text,
  error_fingerprint text,
  code_version text,
  resolution text,
  action_id bigint,  -- see canceled_jobs
  constraint resolution_is_known check (resolution in ('replayed', 'discarded')),
  constraint resolved_in_full check ((resolved_at is null) = (resolution is null)),
  constraint replayed_by_a_job check ((resolution = 'replayed') = (replay_job_id is not null)),
  constraint times_lie_between_2000_and_9998 check (
    least(died_at, resolved_at) >= '2000-01-01 00:00:00+00'
    and greatest(died_at, resolved_at) < '9999-01-01 00:00:00+00'
  )
);

create index dead_letters_open on pgflow.dead_letters (died_at, job_id) where resolved_at is null;
create index dead_letters_open_by_queue on pgflow.dead_letters (queue, died_at, job_id) where resolved_at is null;
create index dead_letters_by_fingerprint on pgflow.dead_letters (error_fingerprint, died_at);
create index dead_letters_resolved on pgflow.dead_letters (resolved_at, job_id) where resolved_at is not null;
-- What --include-resolved lists, and what a list counts as hidden.
create index dead_letters_resolved_by_death on pgflow.dead_letters (died_at, job_id) where resolved_at is not null;

create table pgflow.canceled_jobs (
  job_id uuid primary key,
  canceled_at timestamptz not null default now(),
  queue text not null,
  canceled_by text not null,
  note text,
  -- By which action: a job beyond the first thousand of one finds it here.
  action_id bigint,
  -- Under which it ran when it was canceled: so its worker learns of it with the next heartbeat.
  lease_id uuid,
  constraint canceled_at_lies_between_2000_and_9998 check (
    canceled_at >= '2000-01-01 00:00:00+00' and canceled_at < '9999-01-01 00:00:00+00'
  )
);

create index canceled_jobs_by_time on pgflow.canceled_jobs (canceled_at, job_id);
create index canceled_jobs_of_lease on pgflow.canceled_jobs (lease_id) where lease_id is not null;

-- Why the row of a job, or of its attempts, cannot be sent to a worker; null if it can. It reads everything that a
-- lease reads, converts it to the client's encoding, and catches the error. A damaged page, a byte that is no character
-- and a disk block that cannot be read (58…, perhaps for now) are errors of the row; a lack of memory is one of the
-- server, and is raised.
create function pgflow.why_unreadable(wanted uuid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  written constant name := current_setting('client_encoding');
begin
  perform
    -- Converted back, too: if no conversion is needed, only that validates the bytes.
    convert_from(convert_to(payload::text, written), written), convert_from(convert_to(meta::text, written), written),
    max_attempts, timeout_ms, replay_of_job_id
  from pgflow.jobs
  where id = wanted;
  perform count(*) filter (where status in ('failed', 'lost'))
  from pgflow.job_attempts
  where job_id = wanted;
  return null;
exception
  when data_exception or internal_error or data_corrupted or index_corrupted or io_error or undefined_file then
    return sqlstate || ': ' || sqlerrm;
end
$$;

-- The two functions below are the parts of settle_and_lease that touch rows which other sessions change: each has a
-- plan of its own. A statement that has waited for such a row evaluates it once more (EvalPlanQual), and PostgreSQL 18
-- then decides by the state of that evaluation which partitions the rest of the statement reads: it finds no rows where
-- there are some, or ends the server. tests/repository/test_rechecks.py shows it.

-- Leases of a worker that still exist. Share-locked until the transaction ends, so that no reaper takes one while its
-- outcomes are being written; a heartbeat does not wait.
create function pgflow.hold_leases(lease_ids uuid[], worker_id uuid)
returns table (
  lease_id uuid, batch_id uuid, leased_at timestamptz, queue text, job_ids uuid[], attempt_nos integer[]
)
language plpgsql volatile rows 10
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select held.lease_id, held.batch_id, held.leased_at, held.queue, held.job_ids, held.attempt_nos
  from pgflow.leases as held
  where held.lease_id = any(hold_leases.lease_ids)
    and held.worker_id = hold_leases.worker_id
  order by held.lease_id
  for key share;
end
$$;

-- End a worker's turn: take `gone_ids`, which are settled or have departed, out of `lease_ids`, remove the leases that
-- the worker has done with if they are empty now, and say whether it is idle (null: it has not looked).
create function pgflow.finish_turn(
  lease_ids uuid[], gone_ids uuid[], closed_ids uuid[], worker_id uuid, is_idle boolean
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  present bigint;
begin
  if cardinality(lease_ids || closed_ids) > 0 then
    -- All of them in one order, as a heartbeat locks them: otherwise the two may wait for each other.
    select count(*) into present
    from (
      select held.job_ids
      from pgflow.leases as held
      where held.lease_id = any(lease_ids || closed_ids)
      order by held.lease_id
      for no key update
    ) as locked
    cross join lateral unnest(locked.job_ids) as entry (job_id)
    where entry.job_id in (select unnest(gone_ids));
    -- An outcome is recorded once because its job is taken out of its lease once. Another statement of the same worker
    -- has done so since the fence was taken: this one is undone as a whole, and finds it out when it is sent again.
    if present < cardinality(gone_ids) then
      raise exception 'another statement has settled jobs of the same lease'
      using errcode = 'serialization_failure';
    end if;
    if cardinality(closed_ids) > 0 then
      delete from pgflow.leases as held
      where held.lease_id = any(closed_ids)
        -- Only if nothing is left: the worker may be wrong, and a job that is in no lease and has no outcome is lost.
        and not exists (
          select from unnest(held.job_ids) as entry (job_id)
          where entry.job_id not in (select unnest(gone_ids))
        );
    end if;
    update pgflow.leases as held
    set (job_ids, attempt_nos) = (
      select
        coalesce(array_agg(entry.job_id order by entry.place), '{}'),
        coalesce(array_agg(entry.attempt_no order by entry.place), '{}')
      from unnest(held.job_ids, held.attempt_nos) with ordinality as entry (job_id, attempt_no, place)
      where entry.job_id not in (select unnest(gone_ids))
    )
    where held.lease_id = any(lease_ids);
  end if;
  -- The leases first, as a heartbeat does. An idle worker is told of new jobs; a busy one looks by itself. Written only
  -- when it changes.
  update pgflow.workers as process
  set idle = is_idle,
      last_leased_at = now()
  where process.worker_id = finish_turn.worker_id
    and process.idle <> is_idle;
end
$$;

-- Whether an outcome was recorded under its lease: it was sent before, and the reply was lost. Called for the few
-- outcomes without a lease; a function, because a statement opens all partitions that it might read, each time.
create function pgflow.is_settled(lease_id uuid, job_id uuid, attempt_no integer, status text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  milliseconds constant bigint := ('x' || left(replace(is_settled.job_id::text, '-', ''), 12))::bit(48)::bigint;
begin
  perform
  from pgflow.job_attempts as attempt
  where attempt.job_id = is_settled.job_id
    and attempt.attempt_no = is_settled.attempt_no
    and attempt.lease_id = is_settled.lease_id
    -- A reaper writes under the same lease, but writes that the attempt was lost.
    and attempt.status = is_settled.status;
  if found then
    return true;
  end if;
  perform
  from pgflow.job_successes as success
  where is_settled.status = 'succeeded'
    and success.day = milliseconds / 86400000
    and success.id_times @> milliseconds
    and success.lease_id = is_settled.lease_id
    and success.attempt_nos[array_position(success.job_ids, is_settled.job_id)] = is_settled.attempt_no;
  return found;
end
$$;

revoke execute on function pgflow.hold_leases(uuid[], uuid) from public;
revoke execute on function pgflow.is_settled(uuid, uuid, integer, text) from public;
revoke execute on function pgflow.finish_turn(uuid[], uuid[], uuid[], uuid, boolean) from public;
