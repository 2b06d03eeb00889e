-- What became of attempts lately, by queue; `covered` is how many seconds that was.
with span as (
  -- Whole steps only: the first one would be counted in part.
  select date_bin(
      '10 seconds', now() - %(window)s::float8 * interval '1 second' + interval '10 seconds', '2000-01-01 00:00:00+00'
    ) as since
)
select
  rate.queue,
  date_part('epoch', now() - span.since) as covered,
  sum(rate.succeeded)::bigint as succeeded,
  sum(rate.retried)::bigint as retried,
  sum(rate.dlq)::bigint as dlq,
  sum(rate.canceled)::bigint as canceled,
  sum(rate.succeeded + rate.retried + rate.dlq + rate.snoozed + rate.released + rate.lost + rate.canceled)::bigint
    as ended,
  sum(rate.again)::bigint as again,
  sum(rate.seconds) as seconds,
  pgflow.sum_buckets(rate.buckets) as buckets,
  -- How many were done in each of the last six whole steps, the newest last.
  array(
    select coalesce(sum(step.succeeded + step.dlq + step.canceled), 0)::bigint
    from generate_series(
      date_bin('10 seconds', now(), '2000-01-01 00:00:00+00') - interval '60 seconds',
      date_bin('10 seconds', now(), '2000-01-01 00:00:00+00') - interval '10 seconds',
      interval '10 seconds'
    ) as instant (since)
    left join pgflow.queue_rates as step on step.queue = rate.queue and step.since = instant.since
    group by instant.since
    order by instant.since
  ) as steps
from span
join pgflow.queue_rates as rate on rate.since >= span.since
where rate.queue = any(%(queues)s::text[])
group by rate.queue, span.since
order by rate.queue
