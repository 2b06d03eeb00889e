-- How many jobs were enqueued, counted after the fact: enqueue itself writes nothing for it.
--
-- An id tells when it was made. Ids are counted in slices of ten seconds, each slice four times: when it is over, and at
-- three ages after that, for what was committed late. A slice counts what it has counted at most, so nothing counts
-- twice, whoever looks, and however often. What no look finds is a job whose id is more than an hour older than its
-- commit. Counting begins with this migration.
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

-- As before, and a series is as old as its first decision: else it would lose its place among the 200 when that one is
-- pruned, and its sum would fall.
create or replace function pgflow.keep_decision_counts() returns trigger
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
