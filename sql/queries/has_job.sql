-- Whether a job was enqueued: asked when the reply to a commit was lost.
select exists (
  select
  from pgflow.jobs
  where id = %(job_id)s::uuid
) as found
