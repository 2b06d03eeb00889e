-- Delete rates of queues that are older than two hours.
delete from pgflow.queue_rates
where ctid = any(array(
  select ctid
  from pgflow.queue_rates
  where since < now() - interval '2 hours'
  order by since
  limit %(limit)s::integer
))
