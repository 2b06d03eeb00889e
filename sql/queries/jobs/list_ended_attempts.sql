-- Attempts that have ended since a time, the latest end first. The index of finished_at knows ranges of pages only:
-- what it finds is sorted.
with ended as materialized (
  select
    job_id, attempt_no, status, started_at, finished_at, worker_name, error_code, error_message, code_version
  from (
    select
      job_id, attempt_no, status, started_at, finished_at, worker_name, error_code, error_message, error_fingerprint,
      code_version
    from pgflow.job_attempts
    where finished_at >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
    union all
    select
      entry.job_id, entry.attempt_no, 'succeeded',
      greatest(success.leased_at, success.settled_at - entry.started_ago * interval '1 second'),
      greatest(
        success.leased_at, success.settled_at - entry.started_ago * interval '1 second',
        success.settled_at - entry.ended_ago * interval '1 second'
      ),
      success.worker_name, null, null, null, success.code_version
    from pgflow.job_successes as success
    cross join lateral unnest(
      success.job_ids, success.attempt_nos, success.started_ago, success.ended_ago
    ) as entry (job_id, attempt_no, started_ago, ended_ago)
    -- Settled after it ended, mostly at once.
    where success.settled_at >= coalesce(
      %(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity'
    )
  ) as attempt
  where finished_at >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
    and finished_at < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval, 'infinity')
    and (%(error_codes)s::text[] is null or error_code = any(%(error_codes)s::text[]))
    and (%(fingerprints)s::text[] is null or error_fingerprint = any(%(fingerprints)s::text[]))
    and (%(worker)s::text is null
      or %(worker)s::text in (worker_name, regexp_replace(worker_name, '\.([0-9]+|spare)$', '')))
    and (%(code_version)s::text is null or code_version = %(code_version)s::text)
    and (%(match)s::text is null or strpos(lower(error_message), lower(%(match)s::text)) > 0)
  order by finished_at desc, job_id desc, attempt_no desc
  limit %(most)s::integer
)
select
  ended.job_id::text as job_id,
  job.queue,
  job.job_type,
  ended.attempt_no,
  ended.status,
  ended.started_at,
  ended.finished_at,
  round((date_part('epoch', ended.finished_at) - date_part('epoch', ended.started_at))::numeric * 1000, 3)::float8
    as latency_ms,
  ended.worker_name as worker_id,
  ended.error_code,
  ended.error_message,
  ended.code_version
from ended
left join lateral (
  select queue, job_type
  from pgflow.jobs
  where jobs.id = ended.job_id
  -- Without this the planner may hash-join, and read every partition.
  offset 0
) as job on true
where (%(queues)s::text[] is null or job.queue = any(%(queues)s::text[]))
  and (%(job_types)s::text[] is null or job.job_type = any(%(job_types)s::text[]))
limit %(limit)s::integer
