-- Lock the next items of a plan, and what other plans hold of the same jobs: then none of those changes under us.
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
  -- One order for everybody.
  order by source_job_id, plan_id, place
  for update
)
select (select count(*) from chunk) as items, (select count(*) from siblings) as locked
