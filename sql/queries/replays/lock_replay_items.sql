-- Lock the next items of a plan, the items of the same jobs in other plans, and their dead letters, so that none of
-- these changes meanwhile.
--
-- Counts how many items there are in the chunk. What is done with them is another statement, with a newer snapshot.
with chunk as materialized (
  select source_job_id
  from pgflow.replay_items
  where plan_id = %(plan_id)s::bigint
    and state = %(state)s::text
    and place > %(after_place)s::integer
  order by place
  limit %(limit)s::integer
),
siblings as materialized (
  select place
  from pgflow.replay_items
  where source_job_id = any(array(select source_job_id from chunk))
  -- Every plan locks in this order, so that two cannot deadlock.
  order by source_job_id, plan_id, place
  for update
),
-- The sources are locked after the items, in the order in which create_replays and undo_replays change them.
sources as materialized (
  select job_id
  from pgflow.dead_letters
  where job_id = any(array(select source_job_id from chunk))
    and (select count(*) from siblings) >= 0
  order by job_id
  for update
)
select (select count(*) from chunk) as items, (select count(*) from sources) as locked
