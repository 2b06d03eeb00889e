-- The columns of a list for the jobs in `looked`, in that order. Nothing here sorts: each job is looked up by its key,
-- one after the other, and no more are read than the page needs. Conditions on the job's row come first, because its
-- state takes several look-ups.
matched as (
  select
    looked.at, job.id, job.queue, job.job_type, job.status, job.run_at, job.priority, job.max_attempts,
    job.last_error_code, job.last_error_message, job.dlq_reason_code, job.created_at, job.updated_at, job.short_id,
    job.attempt_no, job.dlq_at, job.fingerprint, job.resolved_at, job.replay_of_job_id, job.worker_id,
    job.lease_expires_at
  from looked
  cross join lateral (
    select jobs.id
    from pgflow.jobs
    where jobs.id = looked.id
      and (%(queues)s::text[] is null or jobs.queue = any(%(queues)s::text[]))
      and (%(job_types)s::text[] is null or jobs.job_type = any(%(job_types)s::text[]))
      and (%(replay_of)s::uuid is null or jobs.replay_of_job_id = %(replay_of)s::uuid)
      and case
        -- Only set after a damaged row has failed the list: it reads each payload twice.
        when %(guarded)s::boolean and pgflow.why_unreadable(jobs.id) is not null then false
        else (%(meta)s::jsonb is null or jobs.meta @> %(meta)s::jsonb)
          and (%(payload_contains)s::jsonb is null or jobs.payload @> %(payload_contains)s::jsonb)
      end
    -- Without this the planner may hash-join, and read every partition.
    offset 0
  ) as source
  cross join lateral (
    select
      id, queue, job_type, status, run_at, priority, max_attempts, last_error_code, last_error_message,
      dlq_reason_code, created_at, updated_at, short_id, attempt_no, dlq_at, fingerprint, resolved_at,
      replay_of_job_id, worker_id, lease_expires_at
    from pgflow.job_overview as overview
    where overview.id = source.id
    offset 0
  ) as job
  -- Lists of a state leave resolved dead letters out.
  where (%(statuses)s::text[] is null or (job.status = any(%(statuses)s::text[]) and job.resolved_at is null))
    and (%(error_codes)s::text[] is null or job.last_error_code = any(%(error_codes)s::text[]))
    and (%(reasons)s::text[] is null or job.dlq_reason_code = any(%(reasons)s::text[]))
    and (%(fingerprints)s::text[] is null or job.fingerprint = any(%(fingerprints)s::text[]))
    and (%(worker)s::text is null
      or %(worker)s::text in (job.worker_id, regexp_replace(job.worker_id, '\.([0-9]+|spare)$', '')))
    and (%(match)s::text is null or strpos(lower(job.last_error_message), lower(%(match)s::text)) > 0)
    and (
      %(code_version)s::text is null
      or exists (
        select
        from (select job.id) as wanted
        cross join lateral (
          -- include: attempts_of_job
        ) as attempt
        where attempt.code_version = %(code_version)s::text
      )
    )
  limit %(limit)s::integer
)
select
  at, id::text as id, queue, job_type, status, run_at, priority::integer as priority, max_attempts, last_error_code,
  last_error_message, dlq_reason_code, created_at, updated_at, short_id, attempt_no, dlq_at, fingerprint, resolved_at,
  replay_of_job_id::text as replay_of_job_id, worker_id, lease_expires_at, null::bigint as looked
from matched
union all
-- Reached only if the page is not full: how many jobs were read, and which was the last.
(
  select
    (array_agg(at))[count(*)], (array_agg(id::text))[count(*)], null, null, null, null, null, null, null,
    null, null, null, null, null, null, null, null, null,
    null, null, null, count(*)
  from looked
)
limit %(limit)s::integer
