-- Jobs enqueued since a time whose id ends with a suffix.
select id::text as job_id, 'recent' as place, queue
from pgflow.any_jobs
-- The first 48 bits of a UUIDv7 are its milliseconds: so partitions of earlier days are pruned.
where id >= rpad(
    lpad(to_hex(greatest(
      (date_part('epoch', coalesce(%(at)s::timestamptz, now() + %(offset)s::interval)) * 1000)::bigint, 0
    )), 12, '0'), 32, '0'
  )::uuid
  and right(id::text, length(%(suffix)s::text)) = %(suffix)s::text
order by id desc
limit %(limit)s::integer
