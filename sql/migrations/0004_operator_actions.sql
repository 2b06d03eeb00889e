-- Every change an operator makes: who, from where, by what command, and how many jobs it touched.
--
-- A change of many jobs goes in batches: its row is written before the first of them and counts on with each, in the
-- transaction of the batch. Whoever kills it half-way leaves a row that says what was done.
create table pgflow.operator_actions (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  finished_at timestamptz,  -- null: it still runs, or was ended half-way
  jobs bigint not null default 0,
  plan_id bigint,  -- of a replay
  actor text not null,  -- as it called itself: --as, else user@host
  role text not null default session_user,  -- as PostgreSQL knows it
  action text not null,  -- 'dlq.discard', 'queues.pause', 'jobs.cancel', …
  queue text,  -- of a change of one queue
  command text not null,  -- without secrets
  note text,
  details_json jsonb not null default '{}',  -- what it was before, the filter, …
  job_ids uuid[] not null default '{}',  -- the first thousand
  constraint times_lie_between_2000_and_9998 check (
    least(at, finished_at) >= '2000-01-01 00:00:00+00' and greatest(at, finished_at) < '9999-01-01 00:00:00+00'
  ),
  constraint action_is_a_dotted_name check (action ~ '^[a-z_]+(\.[a-z_-]+)*$')
);

create index operator_actions_by_time on pgflow.operator_actions (at, id);
create index operator_actions_of_queue on pgflow.operator_actions (queue, at) where queue is not null;
create index operator_actions_of_job on pgflow.operator_actions using gin (job_ids);

-- By which action: a job beyond the first thousand of one finds it here.
alter table pgflow.canceled_jobs add column action_id bigint;
alter table pgflow.dead_letters add column action_id bigint;
