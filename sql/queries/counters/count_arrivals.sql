-- Look at the slices of ids that are due, add what was not counted yet, and say whether more of them are due.
with
stretch as materialized (
  select
    due.age, due.since, beyond.at is not null as more,
    -- If there are more jobs than one look reads: up to the slice of the first job beyond, but at least one slice.
    case
      when beyond.at is null then due.until
      else greatest(
        date_bin('10 seconds', beyond.at, '2000-01-01 00:00:00+00'), due.since + interval '10 seconds'
      )
    end as until
  from (
    select
      age, until as since,
      -- Not beyond the look before it: two looks must not count one slice in one statement.
      least(
        date_bin('10 seconds', now() - age, '2000-01-01 00:00:00+00'), lag(until) over (order by age)
      ) as until
    from pgflow.arrival_looks
  ) as due
  left join lateral (
    select to_timestamp(('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint / 1000) as at
    from pgflow.any_jobs
    where id >= pgflow.least_id(due.since)
      and id < pgflow.least_id(due.until)
    order by id
    offset %(limit)s::integer
    limit 1
  ) as beyond on true
  where due.since < due.until
),
seen as materialized (
  select
    to_timestamp(('x' || translate(left(job.id::text, 13), '-', ''))::bit(48)::bigint / 10000 * 10) as slice,
    job.queue, job.job_type, count(*) as count
  from stretch
  cross join lateral (
    select id, queue, job_type
    from pgflow.any_jobs
    where id >= pgflow.least_id(stretch.since)
      and id < pgflow.least_id(stretch.until)
    order by id
    -- A limit for one slice: producers choose ids, and may give any number of them one millisecond.
    limit %(most_of_a_slice)s::integer
  ) as job
  group by 1, 2, 3
),
-- A series that was there stays; further ones only while there is room.
names as materialized (
  select
    queue, job_type,
    known or count(*) filter (where not known) over (order by queue, job_type) + (
      select count(*)
      from pgflow.worker_counters
      where metric = 'arrivals'
    ) <= %(most_series)s::integer as is_own
  from (
    select
      queue, job_type,
      exists (
        select from pgflow.worker_counters as counter
        where counter.metric = 'arrivals'
          and counter.queue = seen.queue
          and counter.job_type = seen.job_type
      ) as known
    from seen
    group by queue, job_type
  ) as pairs
),
found as materialized (
  select
    slice,
    case when names.is_own then queue else 'other' end as queue,
    case when names.is_own then job_type else 'other' end as job_type,
    sum(count)::bigint as count
  from seen
  join names using (queue, job_type)
  group by 1, 2, 3
),
fresh as materialized (
  select found.queue, found.job_type, sum(found.count - coalesce(before.count, 0))::bigint as count
  from found
  left join pgflow.arrival_slices as before using (slice, queue, job_type)
  -- Never fewer than before: some jobs may have been pruned since, or deleted by hand.
  where found.count > coalesce(before.count, 0)
  group by found.queue, found.job_type
),
remembered as (
  insert into pgflow.arrival_slices as known (slice, queue, job_type, count)
  select slice, queue, job_type, count
  from found
  on conflict (slice, queue, job_type) do update
  set count = excluded.count
  where known.count < excluded.count
),
added as (
  insert into pgflow.worker_counters as counter (supervisor_id, metric, queue, job_type, count)
  select '00000000-0000-0000-0000-000000000000', 'arrivals', queue, job_type, count
  from fresh
  -- In the order in which fold_counters writes them, so that the two cannot deadlock.
  order by queue, job_type
  on conflict (metric, queue, job_type, outcome, code, supervisor_id) do update
  set count = counter.count + excluded.count
),
forgotten as (
  delete from pgflow.arrival_slices
  -- All looks have passed these slices; the slices written above are newer.
  where slice < (select min(until) from pgflow.arrival_looks)
),
advanced as (
  update pgflow.arrival_looks as look
  set until = stretch.until
  from stretch
  where look.age = stretch.age
)
select coalesce((select sum(count) from fresh), 0)::bigint as jobs, coalesce(bool_or(more), false) as more
from stretch
