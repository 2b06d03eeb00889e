-- Settle one success together with the jobs it enqueued: if its lease is gone, there are none.
with fence as materialized (
  select leased_at, job_ids, attempt_nos
  from pgflow.hold_leases(array[%(lease_id)s::uuid], %(worker_id)s::uuid)
),
succeeded as materialized (
  select
    %(lease_id)s::uuid as lease_id, entry.job_id, entry.attempt_no, %(started_ago)s::real as started_ago,
    %(ended_ago)s::real as ended_ago, fence.leased_at
  from fence
  cross join lateral unnest(fence.job_ids, fence.attempt_nos) as entry (job_id, attempt_no)
  where entry.job_id = %(job_id)s::uuid
    and entry.attempt_no = %(attempt_no)s::integer
),
-- include: kept_successes
enqueued as materialized (
  select made.ids
  from kept
  cross join lateral pgflow.enqueue_many(
    -- The argument depends on `kept`: otherwise the planner may call the function first, and enqueue for a job that is
    -- not settled.
    case when kept.job_ids is not null then %(jobs)s::jsonb end,
    max_payload_bytes => %(max_payload_bytes)s::integer,
    max_enqueue_per_minute => %(max_enqueue_per_minute)s::integer
  ) as made (ids)
)
select enqueued.ids::text[] as ids
from enqueued
-- Last, because enqueueing may wait for a producer: from here on, a heartbeat waits for this transaction.
cross join lateral pgflow.finish_turn(
  array[%(lease_id)s::uuid], array[%(job_id)s::uuid], case when enqueued.ids is not null then '{}'::uuid[] end,
  %(worker_id)s::uuid, null
) as finished
union all
-- Settled before, by this statement, whose reply was lost: no row only if the lease is gone.
select '{}'
where pgflow.is_settled(%(lease_id)s::uuid, %(job_id)s::uuid, %(attempt_no)s::integer, 'succeeded')
