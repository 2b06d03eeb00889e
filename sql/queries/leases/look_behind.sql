-- Find the first due entry of each place behind its cursor; of a place without a cursor, among all that is due.
select
  place.queue, place.rank,
  to_char(first.run_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as run_at,
  to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as looked_at,
  -- The server's own time, without the round trip: it is computed for each place, so the last row has the whole.
  extract(epoch from clock_timestamp() - statement_timestamp())::float8 as took,
  place.spent
from (
  select
    ranks.queue, ranks.rank,
    coalesce(ranks.run_at, 'infinity') as run_at,
    coalesce(ranks.job_id, '00000000-0000-0000-0000-000000000000') as job_id,
    -- Null without a limit. By this snapshot; it is exact only under the policy's lock.
    case when gate.limited then gate.throttled or exists (
      select from pgflow.queue_usage as usage
      where usage.queue = ranks.queue
        and least(
          usage.max_in_flight - usage.in_flight, usage.max_attempts_per_minute - usage.attempts_last_minute
        ) <= 0
    ) end as spent
  from (
    -- include: places_to_scan
  ) as ranks
  left join pgflow.queue_gates as gate using (queue)
    -- Those with a limit, too: an idle worker asks for their jobs only if there are some.
  where not coalesce(gate.paused or gate.closed, false)
    -- Nothing is leased behind the fence, so no entry is searched for.
    and not exists (select from pgflow.fence where closed)
) as place
cross join lateral (
  select min(entry.run_at) as run_at
  from (
    select pending.run_at
    from pgflow.pending
    -- include: due_entries
      and (pending.run_at, pending.job_id) < (place.run_at, place.job_id)
    order by pending.queue, pending.rank, pending.run_at, pending.job_id
    -- Not 1: what is dead as far as the cursor must count into `took`, because a scan walks it again from what was
    -- found. A thousand jobs are worth the rest of the way.
    limit 1000
  ) as entry
) as first
