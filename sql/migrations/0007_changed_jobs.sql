-- Waiting jobs that an operator has moved, and running ones that an operator has canceled. The view of 0010 reads both.

-- Where an operator has put a waiting job. `pending` is found by its key, and that has changed: an index on its job_id
-- would cost every enqueue and every lease, this costs the operator. run_at counts until the next attempt; the rank is
-- the job's own from now on, whatever its attempts do. A row may stay after its job has ended: it says nothing then.
create table pgflow.moved_jobs (
  job_id uuid primary key,
  run_at timestamptz not null,
  attempt_no integer not null,  -- attempts numbered when it was moved
  rank smallint not null,
  constraint run_at_lies_between_2000_and_9998 check (
    run_at >= '2000-01-01 00:00:00+00' and run_at < '9999-01-01 00:00:00+00'
  ),
  constraint rank_is_in_range check (rank between -100 and 100)
);

-- The lease under which a job ran when it was canceled: so its worker learns of it with the next heartbeat.
alter table pgflow.canceled_jobs add column lease_id uuid;
create index canceled_jobs_of_lease on pgflow.canceled_jobs (lease_id) where lease_id is not null;
