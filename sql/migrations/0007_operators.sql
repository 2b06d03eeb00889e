-- Every change an operator makes: who, from where, by what command, and how many jobs it touched.
--
-- A change of many jobs goes in batches: its row is written before the first of them and counts on with each, in the
-- transaction of the batch. Killed half-way, it leaves a row that says what was done.
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
  constraint action_is_a_dotted_name check (action ~ '^[a-z_]+(\.[a-z_-]+)*$'),
  constraint times_lie_between_2000_and_9998 check (
    least(at, finished_at) >= '2000-01-01 00:00:00+00' and greatest(at, finished_at) < '9999-01-01 00:00:00+00'
  )
);

create index operator_actions_by_time on pgflow.operator_actions (at, id);
create index operator_actions_of_queue on pgflow.operator_actions (queue, at) where queue is not null;
create index operator_actions_of_job on pgflow.operator_actions using gin (job_ids);

-- Replays: a plan freezes which jobs it is about, so that it can be stopped, taken over after a kill, and undone.
--
-- A plan's jobs are created in chunks, each in a transaction that locks the plan, the items of the chunk and their
-- siblings in other plans, then the dead letters. So two operators who chose the same jobs replay none of them twice.
create table pgflow.replay_plans (
  id bigint generated always as identity primary key,
  created_at timestamptz not null default now(),
  ended_at timestamptz,
  seen_at timestamptz not null default now(),  -- the last sign of life of its runner
  next_run_at timestamptz,  -- of the next job; null: now. Never left behind, so that a late one starts no burst
  action_id bigint not null,  -- the action of its runner
  seconds_apart double precision not null default 0,
  canary_seconds double precision not null default 120,
  runner_id uuid not null default gen_random_uuid(),  -- a fence: who takes the plan over changes it
  selected integer not null default 0,
  created integer not null default 0,
  skipped integer not null default 0,
  failed integer not null default 0,
  undone integer not null default 0,
  canary integer not null default 0,  -- so many must succeed first
  batch_size integer not null,
  max_payload_bytes integer not null,  -- for queues whose policy does not say
  max_attempts integer,  -- these three: null for what the source had
  priority smallint,
  to_queue text,
  again boolean not null default false,
  any_status boolean not null default false,
  state text not null default 'running',
  canary_state text,
  runner text not null,
  patch jsonb,
  constraint state_is_known check (state in ('running', 'stopped', 'finished', 'undone')),
  constraint canary_state_is_known check (canary_state in ('waiting', 'passed', 'failed', 'undecided')),
  constraint ended_in_full check ((ended_at is null) = (state in ('running', 'stopped'))),
  constraint seconds_apart_are_not_negative check (seconds_apart >= 0),
  constraint priority_is_in_range check (priority between -100 and 100),
  constraint max_attempts_is_positive check (max_attempts between 1 and 10000),
  constraint to_queue_is_a_short_ascii_name check (
    octet_length(to_queue) <= 63 and to_queue ~ '^[A-Za-z0-9][A-Za-z0-9_.-]*$'
  ),
  constraint times_lie_between_2000_and_9998 check (
    least(created_at, ended_at, seen_at, next_run_at) >= '2000-01-01 00:00:00+00'
    and greatest(created_at, ended_at, seen_at, next_run_at) < '9999-01-01 00:00:00+00'
  )
);

create index replay_plans_by_time on pgflow.replay_plans (created_at, id);

create table pgflow.replay_items (
  plan_id bigint not null,
  place integer not null,
  source_job_id uuid not null,
  new_job_id uuid,
  -- How the source was resolved when the plan was made: a later change was not by this plan.
  prior_job_id uuid,
  prior_resolved_at timestamptz,
  prior_resolution text,
  is_canary boolean not null default false,
  state text not null default 'waiting',
  problem text,
  primary key (plan_id, place),
  constraint state_is_known check (state in ('waiting', 'created', 'skipped', 'failed', 'undone')),
  constraint created_is_a_job check (state not in ('created', 'undone') or new_job_id is not null),
  constraint problem_is_told check ((state in ('skipped', 'failed')) = (problem is not null)),
  constraint prior_resolved_at_lies_between_2000_and_9998 check (
    prior_resolved_at >= '2000-01-01 00:00:00+00' and prior_resolved_at < '9999-01-01 00:00:00+00'
  )
);

create index replay_items_of_source on pgflow.replay_items (source_job_id, plan_id);
create index replay_items_waiting on pgflow.replay_items (plan_id, place) where state = 'waiting';

-- RFC 7396: objects are merged, null removes, everything else replaces.
create function pgflow.merge_patch(target jsonb, patch jsonb) returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  merged jsonb := case when jsonb_typeof(target) = 'object' then target else '{}' end;
  member record;
begin
  if jsonb_typeof(patch) <> 'object' then
    return patch;
  end if;
  for member in select key, value from jsonb_each(patch) loop
    merged := case
      when jsonb_typeof(member.value) = 'null' then merged - member.key
      else merged || jsonb_build_object(member.key, pgflow.merge_patch(merged -> member.key, member.value))
    end;
  end loop;
  return merged;
end
$$;
revoke execute on function pgflow.merge_patch(jsonb, jsonb) from public;
