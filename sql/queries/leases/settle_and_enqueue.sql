-- Settle one success together with the jobs it enqueued: if its lease is gone, there are none.
with fence as materialized (
  select leased_at, job_ids, attempt_nos
  from pgflow.hold_leases(array[%(lease_id)s::uuid], %(worker_id)s::uuid)
),
held as (
  select fence.leased_at, entry.job_id, entry.attempt_no
  from fence
  cross join lateral unnest(fence.job_ids, fence.attempt_nos) as entry (job_id, attempt_no)
),
settled as (
  insert into pgflow.job_attempts (
    job_id, lease_id, started_at, finished_at, attempt_no, status, worker_name, code_version
  )
  select
    job_id, %(lease_id)s::uuid,
    greatest(leased_at, now() - %(started_ago)s::float8 * interval '1 second'),
    greatest(
      leased_at,
      now() - %(started_ago)s::float8 * interval '1 second',
      now() - %(ended_ago)s::float8 * interval '1 second'
    ),
    attempt_no, 'succeeded', %(worker_name)s::text, %(code_version)s::text
  from held
  where job_id = %(job_id)s::uuid
    and attempt_no = %(attempt_no)s::integer
  on conflict (job_id, attempt_no) do nothing
  returning job_id
)
select enqueued.ids::text[] as ids
from settled
cross join lateral pgflow.enqueue_many(
  -- Of `settled`: otherwise the planner may call the function first, and enqueue for a job that is not settled.
  case when settled.job_id is not null then %(jobs)s::jsonb end,
  max_payload_bytes => %(max_payload_bytes)s::integer,
  max_enqueue_per_minute => %(max_enqueue_per_minute)s::integer
) as enqueued (ids)
union all
-- Settled before, by this statement, whose reply was lost: no row only if the lease is gone.
select '{}'
from pgflow.job_attempts
where job_id = %(job_id)s::uuid
  and attempt_no = %(attempt_no)s::integer
  and lease_id = %(lease_id)s::uuid
  and status = 'succeeded'
