-- How many jobs have come lately, by queue, of the newest up to a limit; `covered` is how many seconds that was.
with newest as materialized (
  select queue, created_at
  from pgflow.jobs
  -- The first 48 bits of a UUIDv7 are its milliseconds: older days are not opened. A producer's clock may run ahead.
  where id >= rpad(lpad(to_hex(
      (date_part('epoch', now() - %(window)s::float8 * interval '1 second') * 1000)::bigint
    ), 12, '0'), 32, '0')::uuid
    and id < rpad(lpad(to_hex(
      (date_part('epoch', now() + interval '1 minute') * 1000)::bigint
    ), 12, '0'), 32, '0')::uuid
  order by id desc
  limit %(limit)s::integer
),
span as (
  select
    case
      when count(*) < %(limit)s::integer then %(window)s::float8
      -- The sample is full: it reaches back to its oldest job.
      else greatest(least(date_part('epoch', now()) - date_part('epoch', min(created_at)), %(window)s::float8), 0.001)
    end as covered
  from newest
)
select newest.queue, span.covered, count(*)::integer as arrived
from newest
cross join span
where newest.created_at > now() - span.covered * interval '1 second' - interval '1 millisecond'
group by newest.queue, span.covered
union all
-- The span, for queues that nothing came to.
select '', covered, 0
from span
