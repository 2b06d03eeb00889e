-- Whether a job was enqueued: asked when the reply to a commit was lost.
select exists (
  select
  from pgflow.any_jobs
  where id = %(job_id)s::uuid
) as found
