-- The queues that matter most, of some or of all: those whose due job waits longest, then those where jobs run or are
-- dead or that have a policy, then by name. `known` is how many there are.
with recursive refused as (
-- include: refused_queues
),
known as materialized (
  select queue
  from (
    select queue
    from pgflow.places
    union
    select queue
    from pgflow.queue_policies
    union
    select queue
    from refused
    where queue is not null
      -- Queues that do not exist, because their first job was refused.
      and queue <> '(new)'
  ) as every
  where %(names)s::text[] is null
    or queue = any(%(names)s::text[])
),
-- Only if not all of them are chosen.
crowded as materialized (
  select count(*) > %(limit)s::integer as is_so
  from known
),
waiting as materialized (
  select place.queue, min(first.run_at) as run_at
  from pgflow.places as place
  cross join lateral (
    select pending.run_at
    from pgflow.pending
    where pending.queue = place.queue
      and pending.rank = place.rank
      and pending.run_at <= now()
    order by pending.queue, pending.rank, pending.run_at, pending.job_id
    limit 1
  ) as first
  where (select is_so from crowded)
  group by place.queue
)
select known.queue, (select count(*) from known)::integer as known
from known
left join waiting using (queue)
order by
  waiting.run_at,
  (select is_so from crowded) and not (
    known.queue in (select leases.queue from pgflow.leases)
    or known.queue in (select queue_policies.queue from pgflow.queue_policies)
    or exists (
      select from pgflow.dead_letters
      where dead_letters.queue = known.queue
        and dead_letters.resolved_at is null
    )
  ),
  known.queue
limit %(limit)s::integer
