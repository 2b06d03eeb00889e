-- The due entries of a place (a queue and a rank) that a worker with these handlers may lease.
where pending.queue = place.queue
  and pending.rank = place.rank
  and pending.run_at <= now()
  and (%(job_types)s::text[] is null or pending.job_type = any(%(job_types)s::text[]))
