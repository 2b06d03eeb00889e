-- Jobs that are in no place, newest first by the time in their id. What says where they are is read as a whole: by
-- nothing else can it be seen that there is no such row.
with looked as materialized (
  select null::timestamptz as at, id
  from (
    select id
    from pgflow.jobs
    where id >=
-- include: since_id
      and id <
-- include: until_id
      and id < coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    -- Not by `not exists`: looked up one by one, `pending` and `leases` have no index by the id alone.
    except
    (
      select job_id
      from pgflow.pending
      union all
      select entry.job_id
      from pgflow.leases
      cross join lateral unnest(leases.job_ids) as entry (job_id)
      union all
      select entry.job_id
      from pgflow.any_successes as success
      cross join lateral unnest(success.job_ids) as entry (job_id)
      union all
      select job_id
      from pgflow.dead_letters
      union all
      select job_id
      from pgflow.canceled_jobs
    )
  ) as lost
  order by id desc
  limit %(most)s::integer
),
-- include: listed_jobs
