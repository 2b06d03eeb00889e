-- Jobs that wait, the first to run first: those that are due, or those of the future.
with looked as materialized (
  select entry.run_at as at, entry.job_id as id
  from pgflow.places as ranks
  cross join lateral (
    select pending.run_at, pending.job_id
    from pgflow.pending
    where pending.queue = ranks.queue
      and pending.rank = ranks.rank
      and pending.run_at <= case when %(due)s::boolean then now() else 'infinity' end
      and pending.run_at > case when %(due)s::boolean then '-infinity' else now() end
      and pending.run_at >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
      and pending.run_at < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval, 'infinity')
      and (pending.run_at, pending.job_id) > (
        coalesce(%(after_at)s::timestamptz, '-infinity'),
        coalesce(%(after_id)s::uuid, '00000000-0000-0000-0000-000000000000')
      )
      and (%(job_types)s::text[] is null or pending.job_type = any(%(job_types)s::text[]))
    -- Every column of the index, to its last, and no more than a number that the planner does not know: it then
    -- expects to read a tenth of the queue. Otherwise it may sort the whole backlog.
    order by pending.queue, pending.rank, pending.run_at, pending.job_id
    limit (select %(most)s::integer)
  ) as entry
  where %(queues)s::text[] is null
    or ranks.queue = any(%(queues)s::text[])
  order by entry.run_at, entry.job_id
  limit %(most)s::integer
),
-- include: listed_jobs
