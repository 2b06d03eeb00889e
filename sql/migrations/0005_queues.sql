-- Queues: their policies, what they have used of them, and what was held back or refused.
--
-- A queue with a limit is leased in two statements of one transaction: the first locks the policy's row, the second
-- counts with a snapshot that is newer than the lock. So a limit holds at every instant, and only limited queues pay.

create table pgflow.queue_policies (
  queue text primary key,
  max_in_flight integer,
  max_attempts_per_minute integer,
  throttle_delay_ms integer,
  max_payload_bytes integer,
  max_enqueue_per_minute integer,
  paused_until timestamptz,  -- 'infinity': until it is resumed
  paused_by text,
  pause_note text,
  updated_at timestamptz not null default now(),
  -- Set when a limit held jobs back and the policy says how long to leave the queue alone; run_at of its jobs stays.
  throttled_until timestamptz,
  updated_by text,
  constraint queue_is_a_short_ascii_name check (
    octet_length(queue) <= 63 and queue ~ '^[A-Za-z0-9][A-Za-z0-9_.-]*$'
  ),
  constraint max_in_flight_is_not_negative check (max_in_flight >= 0),
  constraint max_attempts_per_minute_is_not_negative check (max_attempts_per_minute >= 0),
  constraint throttle_delay_is_not_negative check (throttle_delay_ms >= 0),
  constraint throttle_delay_is_at_most_an_hour check (throttle_delay_ms <= 3600000),
  constraint max_payload_bytes_is_in_range check (max_payload_bytes between 2 and 16777216),
  constraint max_enqueue_per_minute_is_not_negative check (max_enqueue_per_minute >= 0),
  constraint paused_until_lies_after_2000 check (
    paused_until >= '2000-01-01 00:00:00+00' and (paused_until < '9999-01-01 00:00:00+00' or paused_until = 'infinity')
  ),
  constraint times_lie_between_2000_and_9998 check (
    least(throttled_until, updated_at) >= '2000-01-01 00:00:00+00'
    and greatest(throttled_until, updated_at) < '9999-01-01 00:00:00+00'
  )
);

-- Attempts leased in a second of the database's clock. Only queues with a limit of attempts have rows, about sixty.
create table pgflow.attempt_counters (
  second timestamptz not null,
  count bigint not null,
  queue text not null,
  primary key (queue, second),
  constraint second_lies_between_2000_and_9998 check (
    second >= '2000-01-01 00:00:00+00' and second < '9999-01-01 00:00:00+00'
  )
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- The conditions that keep a whole queue from being leased. Leases and explanations read this view.
create view pgflow.queue_gates as
select
  queue,
  coalesce(paused_until > now(), false) as paused,
  max_in_flight is not null or max_attempts_per_minute is not null as limited,
  coalesce(least(max_in_flight, max_attempts_per_minute) = 0, false) as closed,
  coalesce(throttled_until > now(), false) as throttled
from pgflow.queue_policies;

-- How much of its limits a limited queue uses. Exact under the lock of the policy's row.
create view pgflow.queue_usage as
select
  policy.queue,
  policy.max_in_flight,
  policy.max_attempts_per_minute,
  held.jobs as in_flight,
  rate.attempts as attempts_last_minute,
  -- When the oldest second leaves the window. The running second counts in full, so the window is a minute or a little more.
  rate.first_second + interval '61 seconds' as next_free_at
from pgflow.queue_policies as policy
cross join lateral (
  -- Expired leases, too: until they are reaped, their jobs may still run.
  select coalesce(sum(cardinality(leases.job_ids)), 0)::bigint as jobs
  from pgflow.leases
  where leases.queue = policy.queue
    and policy.max_in_flight is not null
) as held
cross join lateral (
  select coalesce(sum(counter.count), 0)::bigint as attempts, min(counter.second) as first_second
  from pgflow.attempt_counters as counter
  where counter.queue = policy.queue
    and counter.second >= date_trunc('second', now()) - interval '60 seconds'
    and policy.max_attempts_per_minute is not null
) as rate
where policy.max_in_flight is not null
  or policy.max_attempts_per_minute is not null;

-- Jobs enqueued in a minute of the database's clock, in one or several rows: as many as there were transactions at
-- once. Only queues with a rate limit have rows.
create table pgflow.enqueue_counters (
  minute timestamptz not null,
  count bigint not null,
  queue text not null,
  id uuid primary key default gen_random_uuid(),
  constraint minute_lies_between_2000_and_9998 check (
    minute >= '2000-01-01 00:00:00+00' and minute < '9999-01-01 00:00:00+00'
  )
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

create index enqueue_counters_by_minute on pgflow.enqueue_counters (queue, minute);

-- See a_restore_marker and maintenance_lock. Dumps of before 0.1 may have neither, but fill this table and error_codes
-- ahead of `jobs` and `pending`. We insert into both, too: so the statement must be pg_dump's. It names the table
-- itself, in capitals; an empty COPY fires as well.
create trigger a_dump_raises_the_fence after insert on pgflow.enqueue_counters
for each statement
when (left(current_query(), 1000) ~ '^(\s|--[^\n]*\n)*(COPY|INSERT INTO) pgflow\.enqueue_counters\M')
execute function pgflow.trip_fence();
alter table pgflow.enqueue_counters enable always trigger a_dump_raises_the_fence;

-- Decisions are pruned; what they counted stays, so that their sum never falls. A series is as old as its first
-- decision: else it would lose its place among the 200 when that one is pruned.
create function pgflow.keep_decision_counts() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into pgflow.worker_counters as counter (supervisor_id, metric, queue, code, count, first_at)
  select
    '00000000-0000-0000-0000-000000000000', tg_table_name, gone.queue, gone.reason_code, sum(gone.count),
    min(gone.first_at)
  from gone
  group by gone.queue, gone.reason_code
  order by gone.queue, gone.reason_code
  on conflict (metric, queue, job_type, outcome, code, supervisor_id) do update
  set count = counter.count + excluded.count,
      first_at = least(counter.first_at, excluded.first_at);
  return null;
end
$$;
revoke execute on function pgflow.keep_decision_counts() from public;

-- A throttle or pause that held jobs back: one row for each queue, reason and minute.
create table pgflow.policy_decisions (
  id bigint generated always as identity primary key,
  minute timestamptz not null,
  first_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  count bigint not null default 1,
  sample_job_id uuid,
  queue text not null,
  decision text not null,
  reason_code text not null,
  details_json jsonb not null default '{}',
  constraint policy_decisions_one_a_minute unique (queue, reason_code, minute),
  constraint times_lie_between_2000_and_9998 check (
    least(minute, first_at, last_at) >= '2000-01-01 00:00:00+00'
    and greatest(minute, first_at, last_at) < '9999-01-01 00:00:00+00'
  )
);

create index policy_decisions_by_time on pgflow.policy_decisions (minute);

create trigger counts_are_kept
after delete on pgflow.policy_decisions
referencing old table as gone
for each statement execute function pgflow.keep_decision_counts();

-- Enqueues that were refused, aggregated the same way; but several rows may say the same, and are summed: a unique key
-- would let each recorder wait for the other's open transaction. See record_refusals in 0002_enqueue.
create table pgflow.ingest_decisions (
  id bigint generated always as identity primary key,
  minute timestamptz not null,
  first_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  count bigint not null default 1,
  queue text not null,
  decision text not null,
  reason_code text not null,
  details_json jsonb not null default '{}',
  constraint times_lie_between_2000_and_9998 check (
    least(minute, first_at, last_at) >= '2000-01-01 00:00:00+00'
    and greatest(minute, first_at, last_at) < '9999-01-01 00:00:00+00'
  )
);

create index ingest_decisions_by_time on pgflow.ingest_decisions (minute);
create index ingest_decisions_by_reason on pgflow.ingest_decisions (queue, reason_code, minute);

create trigger counts_are_kept
after delete on pgflow.ingest_decisions
referencing old table as gone
for each statement execute function pgflow.keep_decision_counts();
