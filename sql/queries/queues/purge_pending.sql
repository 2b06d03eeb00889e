-- Cancel a batch of a queue's waiting jobs, those first that would run first. Jobs that a worker leases meanwhile run.
with places as (
  select queue, rank
  from pgflow.places
  where queue = %(queue)s::text
  order by rank
),
doomed as (
  delete from pgflow.pending
  where ctid = any(array(
    select entry.ctid
    from places
    cross join lateral (
      select pending.ctid
      from pgflow.pending
      where pending.queue = places.queue
        and pending.rank = places.rank
        and case %(status)s::text when 'queued' then pending.run_at <= now() else pending.run_at > now() end
      order by pending.queue, pending.rank, pending.run_at, pending.job_id
      limit %(limit)s::integer
      for update skip locked
    ) as entry
    limit %(limit)s::integer
  ))
  returning job_id, queue
)
insert into pgflow.canceled_jobs (job_id, queue, canceled_by, note, action_id)
select job_id, queue, %(actor)s::text, %(note)s::text, %(action_id)s::bigint
from doomed
returning job_id::text
