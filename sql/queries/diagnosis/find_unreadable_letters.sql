-- Count open dead letters whose job's row cannot be read, and name one; the same of the first jobs that wait, as long
-- as no worker has come to them. With the server's error message, and the relation that it is about.
with
letters as materialized (
  select job_id, error_message as message
  from pgflow.dead_letters
  where resolved_at is null
    and dlq_reason_code = 'UNREADABLE'
),
waiting as materialized (
  select job_id, message
  from (
    -- Each is looked up by its key: a scan of the table would fail at its first damaged page.
    select job_id, pgflow.why_unreadable(job_id) as message
    from (
      select job_id
      from pgflow.pending
      order by queue, rank, run_at, job_id
      limit %(limit)s::integer
    ) as entry
    offset 0
  ) as looked
  where message is not null
)
select
  (select count(*) from letters) as letters,
  (select count(*) from waiting) as waiting,
  (select min(job_id::text) from (table letters union all table waiting) as job) as job_id,
  array(
    select distinct regexp_replace(told.message, '^the row of this job cannot be read: ', '')
      || coalesce(', which is ' || damaged.name, '')
    from (table letters union all table waiting) as told
    -- include: damaged_relation
    where damaged.name is not null
    order by 1
    limit 5
  ) as damages
