-- Forget what queues did more than two hours ago.
delete from pgflow.queue_rates
where ctid = any(array(
  select ctid
  from pgflow.queue_rates
  where since < now() - interval '2 hours'
  order by since
  limit %(limit)s::integer
))
