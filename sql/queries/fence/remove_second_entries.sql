-- Remove entries of pending whose jobs have ended, have gone on, or are leased: a dump that was loaded over them has
-- brought the entries back. Of two entries of one job the one stays that its last move or attempt put there.
delete from pgflow.pending as entry
where entry.ctid in (
    select ctid
    from (
      select
        pending.ctid,
        row_number() over (
          partition by pending.job_id
          order by
            pending.attempt_no desc,
            exists (
              select from pgflow.moved_jobs
              where moved_jobs.job_id = pending.job_id
                and moved_jobs.rank = pending.rank
                and moved_jobs.run_at = pending.run_at
            ) desc,
            pending.run_at, pending.rank, pending.queue
        ) as place
      from pgflow.pending
    ) as numbered
    where place > 1
  )
  or not exists (select from pgflow.jobs where id = entry.job_id)
  or exists (
    select
    from (select entry.job_id as id) as wanted
    cross join lateral (
      -- include: attempts_of_job
    ) as attempt
    where attempt.status = 'succeeded'
      or attempt.attempt_no > entry.attempt_no
  )
  or exists (select from pgflow.dead_letters where dead_letters.job_id = entry.job_id)
  or exists (select from pgflow.canceled_jobs where canceled_jobs.job_id = entry.job_id)
  or exists (
    select
    from pgflow.leases
    cross join lateral unnest(leases.job_ids, leases.attempt_nos) as held (job_id, attempt_no)
    where leases.job_ids @> array[entry.job_id]
      and held.job_id = entry.job_id
      and held.attempt_no > entry.attempt_no
  )
returning entry.job_id::text
