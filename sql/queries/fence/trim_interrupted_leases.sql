-- Drop the entries of interrupted leases whose jobs have ended or gone on since: a dump that was loaded over them has
-- brought the leases back.
with trimmed as (
  select
    leases.lease_id,
    coalesce(array_agg(entry.job_id order by entry.place) filter (where stands.yet), '{}') as job_ids,
    coalesce(array_agg(entry.attempt_no order by entry.place) filter (where stands.yet), '{}') as attempt_nos
  from pgflow.leases
  cross join lateral unnest(leases.job_ids, leases.attempt_nos) with ordinality as entry (job_id, attempt_no, place)
  cross join lateral (
    select
      exists (select from pgflow.jobs where id = entry.job_id)
      and not exists (
        select
        from (select entry.job_id as id) as wanted
        cross join lateral (
          -- include: attempts_of_job
        ) as attempt
        where attempt.status = 'succeeded'
          or attempt.attempt_no >= entry.attempt_no
      )
      and not exists (select from pgflow.dead_letters where dead_letters.job_id = entry.job_id)
      and not exists (select from pgflow.canceled_jobs where canceled_jobs.job_id = entry.job_id) as yet
  ) as stands
  where
    -- include: interrupted_leases
  group by leases.lease_id
)
update pgflow.leases
set job_ids = trimmed.job_ids,
    attempt_nos = trimmed.attempt_nos
from trimmed
where leases.lease_id = trimmed.lease_id
  and leases.job_ids <> trimmed.job_ids
