-- The days before a time that have a partition of jobs, attempts or their archives, the oldest first.
with leaves as (
  select
    parent.relname::text as parent,
    leaf.oid,
    case when leaf.relname ~ '_[0-9]{8}$' then to_date(right(leaf.relname, 8), 'YYYYMMDD') end as day
  from pg_inherits
  join pg_class as parent on parent.oid = inhparent
  join pg_class as leaf on leaf.oid = inhrelid
  where inhparent in (
    'pgflow.jobs'::regclass, 'pgflow.job_attempts'::regclass, 'pgflow.job_successes'::regclass,
    'pgflow.jobs_archive'::regclass, 'pgflow.job_attempts_archive'::regclass, 'pgflow.job_successes_archive'::regclass
  )
)
select
  to_char(day, 'YYYYMMDD') as day,
  pgflow.least_id(day::timestamp at time zone 'UTC')::text as first_id,
  pgflow.least_id((day + 1)::timestamp at time zone 'UTC')::text as end_id,
  array_agg(parent order by parent) as parents,
  coalesce(bool_or(sweep.swept_at > now() - interval '1 hour'), false) as swept_lately
from leaves
left join pgflow.archive_sweeps as sweep using (day)
where (day + 1)::timestamp at time zone 'UTC' <= %(before)s::timestamptz
group by day
order by day
