-- Jobs, newest first by the time in their id. Reads only a limited number.
with looked as materialized (
  select null::timestamptz as at, id
  from pgflow.jobs
  where id >=
-- include: since_id
    and id <
-- include: until_id
    and id < coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  order by id desc
  limit %(most)s::integer
),
-- include: listed_jobs
