-- List the plans of replays, the newest first, and how their jobs have ended: as long as they are few enough in all.
with page as materialized (
  select id, sum(created) over (order by created_at desc, id desc) <= %(counted)s::bigint as is_counted
  from (
    select id, created_at, created
    from pgflow.replay_plans
    where %(after_at)s::timestamptz is null
      or (created_at, id) < (%(after_at)s::timestamptz, %(after_id)s::text::bigint)
    order by created_at desc, id desc
    limit %(limit)s::integer
  ) as newest
)
select
  -- include: replay_plan
  ,
  plan.created - progress.ended - progress.running as waiting,
  progress.running,
  progress.succeeded,
  progress.failed,
  progress.canceled
from page
join pgflow.replay_plans as plan on plan.id = page.id
left join lateral (
  select running.jobs as running, ended.jobs as ended, ended.succeeded, ended.dead as failed, ended.canceled
  from (select 1) as one
  -- include: replay_progress
  where page.is_counted
  offset 0
) as progress on true
order by plan.created_at desc, plan.id desc
