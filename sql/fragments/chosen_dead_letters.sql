-- The conditions of a filter on `dead`, a dead letter. `offset 0` keeps the look-up of each job by its key: the planner
-- must not turn it into a join with all jobs.
(%(queues)s::text[] is null or dead.queue = any(%(queues)s::text[]))
and (%(job_types)s::text[] is null or dead.job_type = any(%(job_types)s::text[]))
and (%(error_codes)s::text[] is null or dead.error_code = any(%(error_codes)s::text[]))
and (%(reasons)s::text[] is null or dead.dlq_reason_code = any(%(reasons)s::text[]))
and (%(fingerprints)s::text[] is null or dead.error_fingerprint = any(%(fingerprints)s::text[]))
and (%(code_version)s::text is null or dead.code_version = %(code_version)s::text)
and (
  (%(since_at)s::timestamptz is null and %(since_offset)s::interval is null)
  or dead.died_at >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval)
)
and (
  (%(until_at)s::timestamptz is null and %(until_offset)s::interval is null)
  or dead.died_at < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval)
)
and (%(match)s::text is null or strpos(lower(dead.error_message), lower(%(match)s::text)) > 0)
and (
  %(worker)s::text is null
  or exists (
    select
    from pgflow.job_attempts
    where job_attempts.job_id = dead.job_id
      and job_attempts.attempt_no = dead.attempt_no
      and %(worker)s::text in (job_attempts.worker_name, regexp_replace(job_attempts.worker_name, '\.([0-9]+|spare)$', ''))
    offset 0
  )
)
and (
  (%(payload_contains)s::jsonb is null and %(meta)s::jsonb is null and %(replay_of)s::uuid is null)
  -- A condition on a payload that cannot be read is false.
  or case when dead.dlq_reason_code <> 'UNREADABLE' then exists (
    select
    from (
      -- include: every_job
    ) as job
    where job.id = dead.job_id
      and (%(payload_contains)s::jsonb is null or job.payload @> %(payload_contains)s::jsonb)
      and (%(meta)s::jsonb is null or job.meta @> %(meta)s::jsonb)
      and (%(replay_of)s::uuid is null or job.replay_of_job_id = %(replay_of)s::uuid)
    offset 0
  ) end
)
