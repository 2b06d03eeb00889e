-- Lock the next items of a plan, what other plans hold of the same jobs, and their dead letters: then none of those
-- changes under us.
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
),
-- Their sources, after the items: who creates and who undoes them changes these next.
sources as materialized (
  select job_id
  from pgflow.dead_letters
  where job_id = any(array(select source_job_id from chunk))
    and (select count(*) from siblings) >= 0
  order by job_id
  for update
)
select (select count(*) from chunk) as items, (select count(*) from sources) as locked
