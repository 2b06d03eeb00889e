-- The payload of one job, as text: it may hold numbers that Python cannot represent. JSON's null where its row cannot
-- be read.
select case
  when pgflow.why_unreadable(%(job_id)s::uuid) is null then (
    select payload::text
    from pgflow.any_jobs
    where id = %(job_id)s::uuid
  )
  else 'null'
end as payload
