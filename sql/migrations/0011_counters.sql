-- What workers have done, counted: for rates, forecasts and Prometheus. Nothing here is written by enqueue or by a lease.

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

-- Since the beginning of time, each supervisor in rows of its own: nobody waits for another's. Rows of supervisors that
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

-- Decisions are pruned; what they counted stays, so that their sum never falls.
create function pgflow.keep_decision_counts() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into pgflow.worker_counters as counter (supervisor_id, metric, queue, code, count)
  select '00000000-0000-0000-0000-000000000000', tg_table_name, gone.queue, gone.reason_code, sum(gone.count)
  from gone
  group by gone.queue, gone.reason_code
  order by gone.queue, gone.reason_code
  on conflict (metric, queue, job_type, outcome, code, supervisor_id) do update
  set count = counter.count + excluded.count;
  return null;
end
$$;

create trigger counts_are_kept
after delete on pgflow.ingest_decisions
referencing old table as gone
for each statement execute function pgflow.keep_decision_counts();

create trigger counts_are_kept
after delete on pgflow.policy_decisions
referencing old table as gone
for each statement execute function pgflow.keep_decision_counts();

revoke execute on function pgflow.add_buckets(bigint[], bigint[]) from public;
revoke execute on function pgflow.sum_buckets(bigint[]) from public;
revoke execute on function pgflow.keep_decision_counts() from public;
