-- Limits of a queue, as the lease enforces them.
--
-- A queue with a limit is leased in two statements of one transaction: the first locks the policy's row, the second
-- counts with a snapshot that is newer than the lock. So a limit holds at every instant, and only limited queues pay.

-- Set when a limit held jobs back and the policy says how long to leave the queue alone; run_at of its jobs stays.
alter table pgflow.queue_policies add column throttled_until timestamptz;
alter table pgflow.queue_policies add column updated_by text;
alter table pgflow.queue_policies add constraint throttle_delay_is_at_most_an_hour check (throttle_delay_ms <= 3600000);
alter table pgflow.queue_policies add constraint times_lie_between_2000_and_9998 check (
  least(throttled_until, updated_at) >= '2000-01-01 00:00:00+00' and greatest(throttled_until, updated_at) < '9999-01-01 00:00:00+00'
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

-- What keeps a lease from a whole queue. The lease reads it, and so does everybody who explains.
create view pgflow.queue_gates as
select
  queue,
  coalesce(paused_until > now(), false) as paused,
  max_in_flight is not null or max_attempts_per_minute is not null as limited,
  coalesce(least(max_in_flight, max_attempts_per_minute) = 0, false) as closed,
  coalesce(throttled_until > now(), false) as throttled
from pgflow.queue_policies;

-- How much of its limits a limited queue uses. Exact for whoever holds the lock of the policy's row.
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
  select count(*) as jobs
  from pgflow.leases
  cross join lateral unnest(leases.job_ids, leases.attempt_nos) as entry (job_id, attempt_no)
  where leases.queue = policy.queue
    and policy.max_in_flight is not null
    and not exists (
      select from pgflow.job_attempts
      where job_attempts.job_id = entry.job_id
        and job_attempts.attempt_no = entry.attempt_no
    )
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
