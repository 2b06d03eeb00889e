-- What keeps a job from running again: a trip-wire for dumps that are loaded over a schema in use, and a memory of ids
-- whose jobs have been archived or pruned.

-- The trip-wire. `psql < dump` goes on after each error: what has a key is refused, what has left its table since the
-- dump comes back, and jobs that have finished wait again. pg_dump orders tables by name, so this one is filled before
-- any other; without a key its COPY succeeds, and the trigger stays. A restore into an empty schema makes triggers last.
-- More than one row: a dump was loaded over this schema, and `fence accept` has not looked after it yet.
create table pgflow.a_restore_marker (
  note text not null default 'a dump was loaded after this row'
);

insert into pgflow.a_restore_marker (note)
values ('loading a dump over this schema raises the fence');

-- The transaction that began a load not accepted yet, and how far jobs had been pruned by then: a row of `jobs` that is
-- younger, and of an id up to there, is one that had been pruned.
alter table pgflow.database_identity add column load_began xid8, add column load_pruned_until uuid;

-- With the owner's rights: who loads a dump need not be able to raise the fence.
create function pgflow.trip_fence() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_table_name <> 'a_restore_marker' then
    insert into pgflow.a_restore_marker default values;
    return null;
  end if;
  update pgflow.database_identity
  set load_began = coalesce(load_began, pg_current_xact_id()),
      load_pruned_until = coalesce(
        load_pruned_until,
        (select history_marks.pruned_until from pgflow.history_marks)
      ),
      epoch = gen_random_uuid(),
      fenced_at = clock_timestamp(),
      fenced_by = session_user,
      fence_reason = 'a dump was loaded over this database while its tables were there';
  return null;
end
$$;
revoke execute on function pgflow.trip_fence() from public;

create trigger a_dump_raises_the_fence after insert on pgflow.a_restore_marker
for each statement execute function pgflow.trip_fence();

-- Dumps of before this table existed have an empty COPY into one that nothing else inserts into, ahead of `pending`.
create trigger a_dump_raises_the_fence after insert on pgflow.maintenance_lock
for each statement execute function pgflow.trip_fence();

-- Dumps of versions 1 to 9 have neither. They fill two tables ahead of `jobs` and `pending` that we insert into, too: so
-- the statement must be pg_dump's. It names the table itself, in capitals; an empty COPY fires as well.
create trigger a_dump_raises_the_fence after insert on pgflow.enqueue_counters
for each statement
when (left(current_query(), 1000) ~ '^(\s|--[^\n]*\n)*(COPY|INSERT INTO) pgflow\.enqueue_counters\M')
execute function pgflow.trip_fence();
create trigger a_dump_raises_the_fence after insert on pgflow.error_codes
for each statement
when (left(current_query(), 1000) ~ '^(\s|--[^\n]*\n)*(COPY|INSERT INTO) pgflow\.error_codes\M')
execute function pgflow.trip_fence();

-- Also where session_replication_role is replica, which loaders of data set.
alter table pgflow.a_restore_marker enable always trigger a_dump_raises_the_fence;
alter table pgflow.maintenance_lock enable always trigger a_dump_raises_the_fence;
alter table pgflow.enqueue_counters enable always trigger a_dump_raises_the_fence;
alter table pgflow.error_codes enable always trigger a_dump_raises_the_fence;

-- Up to which id jobs have been archived and pruned. No job with a greater id is in the archive, and none has been
-- pruned: enqueue looks no further for ids of today. Written by `maintain`, with what it moves or removes.
create table pgflow.history_marks (
  only_row boolean primary key default true,
  archived_until uuid not null default '00000000-0000-0000-0000-000000000000',
  pruned_until uuid not null default '00000000-0000-0000-0000-000000000000',
  constraint there_is_one_row check (only_row)
);

insert into pgflow.history_marks (archived_until)
select coalesce(
  (select id from pgflow.jobs_archive order by id desc limit 1), '00000000-0000-0000-0000-000000000000'
);

create function pgflow.pruned_problem(pruned_until uuid) returns text
language sql stable parallel safe
return format(
  'job_id is of a time before %s, whose jobs have been pruned, so it may have run already; use a new id',
  to_char(
    -- Its first 48 bits are milliseconds.
    to_timestamp(('x' || left(replace(pruned_until::text, '-', ''), 12))::bit(48)::bigint / 1000.0) at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS"Z"'
  )
);
revoke execute on function pgflow.pruned_problem(uuid) from public;

-- As before, but for ids that a producer chose: see history_marks.
--
-- The same job_id twice is one job, also when it has finished or is in the archive: its id comes back and nothing is
-- written. An unknown id of a time whose jobs have been pruned is refused (PF422): it may have run.
create or replace function pgflow.enqueue(
  job_type text,
  payload jsonb default '{}',
  queue text default 'default',
  priority integer default 0,
  max_attempts integer default 25,
  run_at timestamptz default null,  -- null: now
  delay interval default null,  -- instead of run_at, on the database's clock
  job_timeout interval default null,  -- null: the handler's own
  meta jsonb default null,
  job_id uuid default null,
  max_payload_bytes integer default 262144,  -- for queues whose policy does not say
  max_enqueue_per_minute integer default 0  -- the same; 0: unlimited
) returns uuid
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  ticks constant bigint := pgflow.uuid7_ticks();
  new_id constant uuid := coalesce(enqueue.job_id, pgflow.uuid7_at(ticks));
  to_queue constant text := coalesce(enqueue.queue, 'default');
  to_priority constant integer := coalesce(enqueue.priority, 0);
  attempts constant integer := coalesce(enqueue.max_attempts, 25);
  size_limit integer := coalesce(enqueue.max_payload_bytes, 262144);
  rate_limit integer := coalesce(enqueue.max_enqueue_per_minute, 0);
  bytes constant integer := octet_length(enqueue.payload::text);
  timeout_ms constant bigint := pgflow.milliseconds_of(enqueue.job_timeout);
  due_at timestamptz := coalesce(enqueue.run_at, now());
  problem text;
  policy record;
  room bigint;
  marks record;
begin
  problem := pgflow.name_problem(enqueue.job_type, to_queue);
  if problem is null and enqueue.delay is not null then
    if enqueue.run_at is not null then
      problem := 'run_at and delay exclude each other';
    elsif enqueue.delay between interval '0' and interval '100 years' then
      due_at := now() + enqueue.delay;
    else
      problem := 'delay must be from 0 to 100 years';
    end if;
  end if;
  if problem is null then
    problem := coalesce(
      pgflow.field_problem(
        to_priority, attempts, due_at, timeout_ms, enqueue.meta, new_id, pgflow.uuid7_at(ticks + 353894400000)
      ),
      pgflow.payload_problem(enqueue.payload, bytes),
      case
        when size_limit not between 2 and 16777216 then 'max_payload_bytes must be from 2 to 16777216'
        when rate_limit < 0 then 'max_enqueue_per_minute must not be negative'
      end
    );
  end if;
  if problem is not null then
    raise exception using
      errcode = case when problem like 'run_at%' or problem like 'delay%' then 'PF422' else 'PF400' end,
      message = problem;
  end if;

  select policies.max_payload_bytes, policies.max_enqueue_per_minute into policy
  from pgflow.queue_policies as policies
  where policies.queue = to_queue;
  size_limit := coalesce(policy.max_payload_bytes, size_limit);
  rate_limit := coalesce(policy.max_enqueue_per_minute, rate_limit);
  if bytes > size_limit then
    raise exception using
      errcode = 'PF001',
      message = format(
        'the payload has %s bytes and queue "%s" takes at most %s (max_payload_bytes)', bytes, to_queue, size_limit
      ),
      detail = jsonb_build_object(
        'reason_code', 'PAYLOAD_TOO_LARGE', 'queue', to_queue, 'bytes', bytes, 'limit', size_limit, 'jobs', 1,
        'from_policy', policy.max_payload_bytes is not null
      );
  end if;
  if rate_limit > 0 then
    -- A job that is sent again has been paid for.
    if enqueue.job_id is not null and (
      exists (select from pgflow.jobs where id = new_id)
      or exists (select from pgflow.jobs_archive where id = new_id)
    ) then
      return new_id;
    end if;
    room := pgflow.spend_enqueue_quota(to_queue, 1, rate_limit);
    if room is not null then
      raise exception using
        errcode = 'PF002',
        message = format('queue "%s" takes at most %s jobs a minute (max_enqueue_per_minute)', to_queue, rate_limit),
        detail = jsonb_build_object(
          'reason_code', 'ENQUEUE_RATE_EXCEEDED', 'queue', to_queue, 'limit', rate_limit, 'room', room, 'jobs', 1,
          'retry_after_seconds', 60 - floor(date_part('second', clock_timestamp())),
          'from_policy', policy.max_enqueue_per_minute is not null
        );
    end if;
  end if;

  -- Two plain statements: one with a CTE costs a third more.
  insert into pgflow.jobs (id, queue, job_type, payload, priority, max_attempts, run_at, timeout_ms, meta)
  values (
    new_id, to_queue, enqueue.job_type, enqueue.payload, to_priority, attempts, due_at, timeout_ms, enqueue.meta
  )
  on conflict (id) do nothing;
  if not found then
    return new_id;
  end if;
  -- After the insert, with a new snapshot: a job that goes to the archive meanwhile is in jobs or in the archive then.
  if enqueue.job_id is not null then
    select history_marks.archived_until, history_marks.pruned_until into marks
    from pgflow.history_marks;
    if new_id <= marks.archived_until and exists (select from pgflow.jobs_archive where id = new_id) then
      delete from pgflow.jobs
      where id = new_id;
      return new_id;
    end if;
    if new_id <= marks.pruned_until then
      raise exception using errcode = 'PF422', message = pgflow.pruned_problem(marks.pruned_until);
    end if;
  end if;
  insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
  values (to_queue, -to_priority, due_at, new_id, enqueue.job_type);

  -- Asked first: an insert that finds its row still costs more than a look.
  if not exists (select from pgflow.queue_ranks where queue = to_queue and rank = -to_priority) then
    insert into pgflow.queue_ranks (queue, rank)
    values (to_queue, -to_priority)
    on conflict (queue, rank) do nothing;
  end if;

  -- Only an idle worker is told: notifications serialise commits, and a busy worker looks by itself.
  if due_at <= now() and exists (
    select
    from pgflow.workers
    where idle
      and not quiet
      and (queues is null or to_queue = any(queues))
  ) then
    perform pg_notify('pgflow', to_queue);
  end if;
  return new_id;
end
$$;

-- As before, but for ids that a producer chose, as in enqueue. One that is refused refuses all, with its ordinal.
create or replace function pgflow.enqueue_many(
  jobs jsonb,
  job_type text default null,
  queue text default 'default',
  priority integer default 0,
  max_attempts integer default 25,
  run_at timestamptz default null,
  delay interval default null,
  job_timeout interval default null,
  meta jsonb default null,
  job_ids uuid[] default null,
  max_payload_bytes integer default 262144,
  max_enqueue_per_minute integer default 0
) returns uuid[]
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  ticks constant bigint := pgflow.uuid7_ticks();
  horizon constant uuid := pgflow.uuid7_at(ticks + 353894400000);
  due_at timestamptz := coalesce(enqueue_many.run_at, now());
  problem text;
  bad record;
  outcome record;
  marks record;
  known uuid[];
  forgotten integer[];
begin
  problem := case
    when jsonb_typeof(jobs) is distinct from 'array' then 'jobs must be a JSON array of objects'
    when jsonb_array_length(jobs) > 1000 then 'a call takes at most 1000 jobs'
    when enqueue_many.run_at is not null and delay is not null then 'run_at and delay exclude each other'
    when delay not between interval '0' and interval '100 years' then 'delay must be from 0 to 100 years'
    when cardinality(job_ids) <> jsonb_array_length(jobs) then 'job_ids must be as many as jobs'
    when enqueue_many.max_payload_bytes not between 2 and 16777216
      then 'max_payload_bytes must be from 2 to 16777216'
    when enqueue_many.max_enqueue_per_minute < 0 then 'max_enqueue_per_minute must not be negative'
  end;
  if problem is not null then
    raise exception using
      errcode = case when problem like 'run_at%' or problem like 'delay%' then 'PF422' else 'PF400' end,
      message = problem;
  end if;
  if delay is not null then
    due_at := now() + delay;
  end if;

  select
    element.ordinal,
    case
      when jsonb_typeof(element.job) <> 'object' then 'a job must be a JSON object'
      -- A name is repeated only if it looks like one: it may be payload.
      when stray.name ~ '^[A-Za-z0-9_]{1,40}$' then format('unknown field "%s"', stray.name)
      else 'unknown field'
    end as problem
  into bad
  from (
    select job, ordinal
    from jsonb_array_elements(jobs) with ordinality as elements (job, ordinal)
    where jsonb_typeof(job) <> 'object'
      or case when jsonb_typeof(job) = 'object' then job - array[
        'job_type', 'payload_json', 'queue', 'run_at', 'priority', 'max_attempts', 'job_id', 'job_timeout', 'meta'
      ] <> '{}' end
    limit 1
  ) as element
  left join lateral (
    select key as name
    from jsonb_object_keys(case jsonb_typeof(element.job) when 'object' then element.job else '{}' end) as key
    where key not in (
      'job_type', 'payload_json', 'queue', 'run_at', 'priority', 'max_attempts', 'job_id', 'job_timeout', 'meta'
    )
    limit 1
  ) as stray on true;
  if found then
    raise exception using
      errcode = 'PF400',
      message = format('job %s: %s', bad.ordinal, bad.problem),
      detail = jsonb_build_object('ordinals', array[bad.ordinal], 'problems', array[bad.problem]);
  end if;

  -- One statement: what is refused is known before the first row is written, and a refusal undoes what it has spent.
  with
  parsed as materialized (
    select
      ordinal::integer as ordinal,
      coalesce(
        case when given.job_id is null
          then coalesce(enqueue_many.job_ids[ordinal], pgflow.uuid7_at(ticks + ordinal))
          else pgflow.uuid_of(given.job_id)
        end,
        -- Not null, and not acceptable.
        '00000000-0000-0000-0000-000000000000'
      ) as id,
      case when given.queue is null then coalesce(enqueue_many.queue, 'default') else given.queue #>> '{}' end as queue,
      coalesce(
        case when given.job_type is null then enqueue_many.job_type else given.job_type #>> '{}' end, ''
      ) as job_type,
      given.payload_json as payload,
      octet_length(given.payload_json::text) as bytes,
      case when given.priority is null
        then coalesce(enqueue_many.priority, 0) else pgflow.integer_of(given.priority)
      end as priority,
      case when given.max_attempts is null
        then coalesce(enqueue_many.max_attempts, 25) else pgflow.integer_of(given.max_attempts)
      end as max_attempts,
      case when given.run_at is null then due_at else pgflow.time_of(given.run_at) end as run_at,
      case when given.job_timeout is null
        then pgflow.milliseconds_of(enqueue_many.job_timeout) else pgflow.milliseconds_of(given.job_timeout)
      end as timeout_ms,
      coalesce(given.meta, enqueue_many.meta) as meta,
      jsonb_typeof(given.job_type) <> 'string' or jsonb_typeof(given.queue) <> 'string' as name_is_no_string,
      given.job_id is not null or enqueue_many.job_ids[ordinal] is not null as id_is_given
    -- Read as jsonb and cast by hand: a cast that fails would end the call in words that are not ours.
    from rows from (
      jsonb_to_recordset(jobs) as (
        job_type jsonb, payload_json jsonb, queue jsonb, run_at jsonb, priority jsonb, max_attempts jsonb,
        job_id jsonb, job_timeout jsonb, meta jsonb
      )
    ) with ordinality as given (
      job_type, payload_json, queue, run_at, priority, max_attempts, job_id, job_timeout, meta, ordinal
    )
  ),
  -- Regular expressions and policies are looked up for each pair of names, not for each job.
  names as materialized (
    select
      pairs.queue, pairs.job_type,
      pgflow.name_problem(pairs.job_type, pairs.queue) as problem,
      coalesce(policy.max_payload_bytes, enqueue_many.max_payload_bytes, 262144) as size_limit,
      coalesce(policy.max_enqueue_per_minute, enqueue_many.max_enqueue_per_minute, 0) as rate_limit,
      policy.max_payload_bytes is not null as size_from_policy,
      policy.max_enqueue_per_minute is not null as rate_from_policy
    from (
      select distinct queue, job_type
      from parsed
    ) as pairs
    left join pgflow.queue_policies as policy using (queue)
  ),
  problems as materialized (
    select ordinal, problem
    from (
      select
        parsed.ordinal,
        coalesce(
          case when parsed.name_is_no_string then 'job_type and queue must be strings' end,
          names.problem,
          pgflow.field_problem(
            parsed.priority, parsed.max_attempts, parsed.run_at, parsed.timeout_ms, parsed.meta, parsed.id, horizon
          ),
          pgflow.payload_problem(parsed.payload, parsed.bytes)
        ) as problem
      from parsed
      join names using (queue, job_type)
    ) as checked
    where problem is not null
  ),
  too_large as materialized (
    select parsed.ordinal, parsed.queue, parsed.bytes, names.size_limit, names.size_from_policy
    from parsed
    join names using (queue, job_type)
    where parsed.bytes > names.size_limit
  ),
  -- What limited queues must pay for: not what was paid for when it was sent the first time.
  charges as materialized (
    select
      wanted.queue, wanted.ordinals, wanted.rate_limit, wanted.rate_from_policy,
      pgflow.spend_enqueue_quota(wanted.queue, cardinality(wanted.ordinals), wanted.rate_limit) as room
    from (
      select
        fresh.queue, fresh.rate_limit, fresh.rate_from_policy,
        array_agg(fresh.ordinal order by fresh.ordinal) as ordinals
      from (
        select distinct on (parsed.id)
          parsed.queue, parsed.ordinal, names.rate_limit, names.rate_from_policy
        from parsed
        join names using (queue, job_type)
        where names.rate_limit > 0
          and parsed.bytes <= names.size_limit
          and not exists (select from pgflow.jobs where id = parsed.id)
          and not exists (select from pgflow.jobs_archive where id = parsed.id)
          and not exists (select from problems)
        order by parsed.id, parsed.ordinal
      ) as fresh
      group by fresh.queue, fresh.rate_limit, fresh.rate_from_policy
      -- Counters are locked in one order.
      order by fresh.queue
    ) as wanted
  ),
  inserted as (
    insert into pgflow.jobs (id, queue, job_type, payload, priority, max_attempts, run_at, timeout_ms, meta)
    select id, queue, job_type, payload, priority, max_attempts, run_at, timeout_ms, meta
    from parsed
    where not exists (select from problems)
      and not exists (select from too_large)
      and not exists (select from charges where room is not null)
    on conflict (id) do nothing
    returning id, queue, job_type, priority, run_at
  ),
  -- From what was inserted, not from what was asked for: an id that came twice has one entry.
  waiting as (
    insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
    select queue, -priority, run_at, id, job_type
    from inserted
  ),
  places as materialized (
    select queue, -priority as rank, min(run_at) as run_at
    from inserted
    group by queue, priority
  ),
  ranked as (
    insert into pgflow.queue_ranks (queue, rank)
    select queue, rank
    from places
    where not exists (
      select
      from pgflow.queue_ranks as known
      where known.queue = places.queue
        and known.rank = places.rank
    )
    -- Two first enqueues of several new queues wait for each other in one order.
    order by queue, rank
    on conflict (queue, rank) do nothing
  ),
  refusals as materialized (
    select
      1 as kind, queue, size_limit as quota, max(bytes)::bigint as bytes, null::bigint as room,
      bool_or(size_from_policy) as from_policy, array_agg(ordinal order by ordinal) as ordinals
    from too_large
    group by queue, size_limit
    union all
    select 2, queue, rate_limit, null, room, rate_from_policy, ordinals[room + 1:]
    from charges
    where room is not null
  )
  select
    (select array_agg(id order by ordinal) from parsed) as ids,
    (select array_agg(ordinal order by ordinal) from problems) as bad_ordinals,
    (select array_agg(problem order by ordinal) from problems) as problems,
    (
      select jsonb_agg(
        jsonb_strip_nulls(jsonb_build_object(
          'reason_code', case kind when 1 then 'PAYLOAD_TOO_LARGE' else 'ENQUEUE_RATE_EXCEEDED' end,
          'queue', queue, 'limit', quota, 'bytes', bytes, 'room', room, 'jobs', cardinality(ordinals),
          'retry_after_seconds', case kind when 2 then 60 - floor(date_part('second', clock_timestamp())) end,
          'from_policy', from_policy, 'ordinals', ordinals
        ))
        order by kind, queue
      )
      from refusals
    ) as refused,
    (select array_agg(distinct queue) from places where run_at <= now()) as due_queues,
    -- Null, and no further look, where the database made every id.
    (select array_agg(id) from inserted where exists (select from parsed where id_is_given)) as chosen
  into outcome;

  if outcome.problems is not null then
    raise exception using
      errcode = case when outcome.problems[1] like 'run_at%' then 'PF422' else 'PF400' end,
      message = format('job %s: %s', outcome.bad_ordinals[1], outcome.problems[1]),
      detail = jsonb_build_object('ordinals', outcome.bad_ordinals, 'problems', outcome.problems);
  end if;
  if outcome.refused is not null then
    raise exception using
      errcode = case outcome.refused #>> '{0,reason_code}' when 'PAYLOAD_TOO_LARGE' then 'PF001' else 'PF002' end,
      message = case outcome.refused #>> '{0,reason_code}'
        when 'PAYLOAD_TOO_LARGE' then format(
          'job %s: the payload has %s bytes and queue "%s" takes at most %s (max_payload_bytes)',
          outcome.refused #>> '{0,ordinals,0}', outcome.refused #>> '{0,bytes}',
          outcome.refused #>> '{0,queue}', outcome.refused #>> '{0,limit}'
        )
        else format(
          'queue "%s" takes at most %s jobs a minute (max_enqueue_per_minute)',
          outcome.refused #>> '{0,queue}', outcome.refused #>> '{0,limit}'
        )
      end,
      detail = (outcome.refused -> 0) || jsonb_build_object(
        'refused', outcome.refused,
        'ordinals', (
          select array_agg(distinct ordinal::integer)
          from jsonb_array_elements(outcome.refused) as refusal,
            jsonb_array_elements_text(refusal -> 'ordinals') as ordinal
        )
      );
  end if;

  -- With a new snapshot: a job that goes to the archive meanwhile is in jobs or in the archive then.
  if outcome.chosen is not null then
    select history_marks.archived_until, history_marks.pruned_until into marks
    from pgflow.history_marks;
    known := array(
      select chosen.id
      from unnest(outcome.chosen) as chosen (id)
      -- One look by its key for each: a join might be hashed, and read the whole archive.
      cross join lateral (
        select
        from pgflow.jobs_archive
        where jobs_archive.id = chosen.id
        limit 1
      ) as archived
      where chosen.id <= marks.archived_until
    );
    select array_agg(given.ordinal order by given.ordinal) into forgotten
    from unnest(outcome.ids) with ordinality as given (id, ordinal)
    where given.id <= marks.pruned_until
      and given.id = any(outcome.chosen)
      and given.id <> all(known);
    if forgotten is not null then
      problem := pgflow.pruned_problem(marks.pruned_until);
      raise exception using
        errcode = 'PF422',
        message = format('job %s: %s', forgotten[1], problem),
        detail = jsonb_build_object(
          'ordinals', forgotten, 'problems', array_fill(problem, array[cardinality(forgotten)])
        );
    end if;
    if cardinality(known) > 0 then
      -- By the whole key: pending has no index on the job alone.
      delete from pgflow.pending
      using pgflow.jobs
      where jobs.id = any(known)
        and pending.queue = jobs.queue
        and pending.rank = -jobs.priority
        and pending.run_at = jobs.run_at
        and pending.job_id = jobs.id;
      delete from pgflow.jobs
      where id = any(known);
    end if;
  end if;

  perform pg_notify('pgflow', due.queue)
  from unnest(outcome.due_queues) as due (queue)
  where exists (
    select
    from pgflow.workers
    where idle
      and not quiet
      and (queues is null or due.queue = any(queues))
  );
  return coalesce(outcome.ids, '{}');
end
$$;
