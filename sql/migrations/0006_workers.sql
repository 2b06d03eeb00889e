-- Workers: the processes that live, and what they have done, counted: for rates, forecasts and Prometheus. Nothing that
-- counts here is written by enqueue or by a lease.

-- A live worker process. Small and updated often: room on the page keeps every update in place.
create table pgflow.workers (
  worker_id uuid primary key,  -- of this incarnation: a name may be shared by mistake, this never is
  supervisor_id uuid not null,
  started_at timestamptz not null default now(),
  last_heartbeat timestamptz not null default now(),
  last_leased_at timestamptz,
  stalled_since timestamptz,  -- since when it has leased nothing though due jobs wait that it may run
  pid integer not null,
  slots integer not null,
  busy_slots integer not null default 0,
  lease_seconds integer not null,
  idle boolean not null default false,  -- found nothing and waits to be told
  quiet boolean not null default false,  -- leases nothing until it is resumed: an operator or a signal said so
  retiring boolean not null default false,  -- leases nothing more: it is replaced, and ends after its other jobs
  spare boolean not null default false,  -- leases nothing itself: runs a job apart that processes have died of
  -- Not null: there is no process in this place, but a supervisor that starts one. So many have died one after the
  -- other before they settled anything, or could not be started.
  deaths integer,
  name text not null,
  host text not null,
  code_version text,
  queues text[],  -- null: every queue
  job_types text[],  -- null: every job type
  constraint times_lie_between_2000_and_9998 check (
    least(started_at, last_heartbeat, last_leased_at, stalled_since) >= '2000-01-01 00:00:00+00'
    and greatest(started_at, last_heartbeat, last_leased_at, stalled_since) < '9999-01-01 00:00:00+00'
  )
) with (fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- What handlers declare of their error codes, so that operators need no application code to read them.
create table pgflow.error_codes (
  code text primary key,
  retry_class text not null,
  suggested_action text not null,
  updated_at timestamptz not null default now(),
  constraint code_is_upper_case check (code ~ '^[A-Z][A-Z0-9_]{0,63}$'),
  constraint retry_class_is_known check (retry_class in ('retry', 'never', 'crash_budget')),
  constraint updated_at_lies_between_2000_and_9998 check (
    updated_at >= '2000-01-01 00:00:00+00' and updated_at < '9999-01-01 00:00:00+00'
  )
);

-- See enqueue_counters.
create trigger a_dump_raises_the_fence after insert on pgflow.error_codes
for each statement
when (left(current_query(), 1000) ~ '^(\s|--[^\n]*\n)*(COPY|INSERT INTO) pgflow\.error_codes\M')
execute function pgflow.trip_fence();
alter table pgflow.error_codes enable always trigger a_dump_raises_the_fence;

-- Element by element; the longer one decides the length.
create function pgflow.add_buckets(a bigint[], b bigint[]) returns bigint[]
language sql immutable parallel safe
return case
  when a is null then b
  when b is null then a
  else (
    select array_agg(coalesce(pair.a, 0) + coalesce(pair.b, 0) order by pair.place)
    from unnest(a, b) with ordinality as pair (a, b, place)
  )
end;

create aggregate pgflow.sum_buckets(bigint[]) (sfunc = pgflow.add_buckets, stype = bigint[], parallel = safe);

revoke execute on function pgflow.add_buckets(bigint[], bigint[]) from public;
revoke execute on function pgflow.sum_buckets(bigint[]) from public;

-- Since the beginning of time, each supervisor in rows of its own: none waits for another's. Rows of supervisors that
-- are gone are folded into those of supervisor 0, so that sums never fall.
create table pgflow.worker_counters (
  supervisor_id uuid not null,
  first_at timestamptz not null default now(),  -- the labels seen first keep their own series
  count bigint not null,
  seconds float8 not null default 0,
  metric text not null,  -- attempts, duration, wait, leases_expired, …; flushes: the number of the last addition
  queue text not null default '',
  job_type text not null default '',
  outcome text not null default '',
  code text not null default '',  -- an error code or a reason code
  buckets bigint[],  -- of a histogram, the last one without a bound
  primary key (metric, queue, job_type, outcome, code, supervisor_id),
  constraint first_at_lies_between_2000_and_9998 check (
    first_at >= '2000-01-01 00:00:00+00' and first_at < '9999-01-01 00:00:00+00'
  )
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

create index worker_counters_of_supervisor on pgflow.worker_counters (supervisor_id);

-- The last two hours of each queue, in steps of ten seconds, all workers together.
create table pgflow.queue_rates (
  since timestamptz not null,
  succeeded bigint not null default 0,
  retried bigint not null default 0,
  dlq bigint not null default 0,
  snoozed bigint not null default 0,
  released bigint not null default 0,
  lost bigint not null default 0,
  canceled bigint not null default 0,
  again bigint not null default 0,  -- of all of them, those that were not the job's first
  seconds float8 not null default 0,  -- that the measured attempts took
  queue text not null,
  buckets bigint[],  -- of how long they took
  primary key (queue, since),
  constraint since_lies_between_2000_and_9998 check (
    since >= '2000-01-01 00:00:00+00' and since < '9999-01-01 00:00:00+00'
  )
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

create index queue_rates_by_time on pgflow.queue_rates (since);

-- How many jobs were enqueued, counted after the fact: enqueue itself writes nothing for it.
--
-- An id tells when it was made. Ids are counted in slices of ten seconds, each slice four times: when it is over, and at
-- three ages after that, for what was committed late. A slice counts what it has counted at most, so nothing counts
-- twice, by whichever session, and however often. What no look finds is a job whose id is more than an hour older than its
-- commit. Counting begins when this table is made.
create table pgflow.arrival_looks (
  age interval primary key,  -- of the slices that it looks at
  until timestamptz not null default date_bin('10 seconds', now(), '2000-01-01 00:00:00+00'),  -- the next slice
  constraint until_lies_between_2000_and_9998 check (
    until >= '2000-01-01 00:00:00+00' and until < '9999-01-01 00:00:00+00'
  )
);

insert into pgflow.arrival_looks (age)
values ('2 seconds'), ('1 minute'), ('10 minutes'), ('1 hour');

-- What was found in each slice so far; forgotten after its last look. The sums stand in worker_counters.
create table pgflow.arrival_slices (
  slice timestamptz not null,
  count bigint not null,
  queue text not null,
  job_type text not null,
  primary key (slice, queue, job_type),
  constraint slice_lies_between_2000_and_9998 check (
    slice >= '2000-01-01 00:00:00+00' and slice < '9999-01-01 00:00:00+00'
  )
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
