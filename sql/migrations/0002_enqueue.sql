-- The gate for producers: programs in every language enqueue by these two functions, each in its own transaction.
--
-- They refuse with an error. PF4xx is bad input (PF422: a time out of range); PF0xx is a guard, and its DETAIL is a JSON
-- object of reason_code, queue and numbers. Everything is checked before a row is written: a CHECK of the table would
-- print the failing row, payload and all.

-- UUIDv7 (RFC 9562, section 5.7) of an instant, counted in 1/4096 ms since 1970: milliseconds, then the fraction in
-- rand_a (section 6.2, method 3), then 62 random bits. Version 4's variant bits are version 7's too.
create function pgflow.uuid7_at(ticks bigint) returns uuid
language sql volatile strict parallel safe
return encode(
  int8send((ticks >> 12 << 16) | 28672 | (ticks & 4095)) || substring(uuid_send(gen_random_uuid()) from 9), 'hex'
)::uuid;

create function pgflow.uuid7_ticks() returns bigint
language sql volatile parallel safe
return (date_part('epoch', clock_timestamp()) * 4096000)::bigint;

create function pgflow.uuid7() returns uuid
language sql volatile parallel safe
return pgflow.uuid7_at(pgflow.uuid7_ticks());

-- The checks. Each returns null for an acceptable value, else a sentence; all are single expressions, so that the
-- planner inlines them.

create function pgflow.name_problem(job_type text, queue text) returns text
language sql immutable parallel safe
return case
  when job_type is null or job_type = '' then 'job_type is missing'
  -- The length apart from the expression: a bounded repetition makes each match ten times as slow.
  when octet_length(job_type) > 128 or job_type !~ '^[A-Za-z0-9][A-Za-z0-9_.:-]*$'
    then 'job_type must be 1 to 128 letters, digits, or any of _ . : - and begin with a letter or digit'
  when octet_length(queue) > 63 or queue !~ '^[A-Za-z0-9][A-Za-z0-9_.-]*$'
    then 'queue must be 1 to 63 letters, digits, or any of _ . - and begin with a letter or digit'
end;

create function pgflow.field_problem(
  priority integer, max_attempts integer, run_at timestamptz, timeout_ms bigint, meta jsonb, job_id uuid, horizon uuid
) returns text
language sql immutable parallel safe
return case
  when priority is null or priority not between -100 and 100 then 'priority must be a whole number from -100 to 100'
  when max_attempts is null or max_attempts not between 1 and 10000
    then 'max_attempts must be a whole number from 1 to 10000'
  -- Infinity is outside, too.
  when run_at is null or run_at < '2000-01-01 00:00:00+00' or run_at >= '9999-01-01 00:00:00+00'
    then 'run_at must be a time with a zone, from 2000 to 9998'
  when timeout_ms = -1 then 'job_timeout must be seconds, or text such as 500ms, 30s, 5m, 2h, 7d or 1h30m'
  when timeout_ms not between 1 and 2592000000 then 'job_timeout must be from 1ms to 30d'
  when jsonb_typeof(meta) <> 'object' then 'meta must be a JSON object'
  when octet_length(meta::text) >= 130
    and jsonb_path_exists(meta, 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")')
    then 'meta is nested deeper than 64 levels'
  when job_id is null or get_byte(uuid_send(job_id), 6) >> 4 <> 7 or get_byte(uuid_send(job_id), 8) >> 6 <> 2
    then 'job_id must be a UUIDv7'
  when job_id > horizon then 'job_id must be a UUIDv7 of a time at most a day ahead'
end;

-- Whether every number beyond 2^53 is one that float64 holds. Numbers are judged as jsonb holds them: 1e20 and
-- 100000000000000000000 are the same to it, so such a whole number passes and 9007199254740993 does not.
create function pgflow.numbers_fit_float64(payload jsonb) returns boolean
language sql immutable parallel safe
-- A caller's session may print floats with fewer digits than tell them apart.
set extra_float_digits = 1
return not exists (
  select
  from jsonb_path_query(payload, 'strict $.** ? (@ > 9007199254740992 || @ < -9007199254740992)') as path (number)
  where case
    when abs(number::numeric) > 1.7976931348623157e308 then true
    else trunc(number::numeric) = number::numeric and number::float8::text::numeric <> number::numeric
  end
);

-- `bytes` is the length of the payload's text.
create function pgflow.payload_problem(payload jsonb, bytes integer) returns text
language sql immutable parallel safe
return case
  -- JSON's null too: a document of jobs cannot tell it from a missing field.
  when payload is null or payload = 'null' then 'payload_json is missing'
  -- Shorter texts have no room for 65 brackets and their partners.
  when bytes >= 130 and jsonb_path_exists(payload, 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")')
    then 'the payload is nested deeper than 64 levels'
  when bytes >= 16
    and jsonb_path_exists(payload, 'strict $.** ? (@ > 9007199254740992 || @ < -9007199254740992)')
    -- A function of its own: with a subquery inside, this one could not be inlined, and would cost ten times as much.
    and not pgflow.numbers_fit_float64(payload)
    then 'the payload has a number outside float64, or a whole one beyond 2^53 that must be a string'
  -- 1e-324 takes 326 bytes.
  when bytes >= 326
    and jsonb_path_exists(payload, 'strict $.** ? (@ != 0 && @ > -4.9e-324 && @ < 4.9e-324)')
    then 'the payload has a number too small for float64'
end;

-- `500ms`, `30s`, `5m`, `2h`, `7d`, `1h30m`; null for anything else. Its digits are bounded so that the cast cannot
-- overflow, and its length so that a time this far ahead is one.
create function pgflow.interval_of(given text) returns interval
language sql stable parallel safe
return case
  when octet_length(given) between 2 and 40
    and given ~ '^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$'
    and given !~ '[0-9]{13}|[0-9]{10}([dh]|m($|[0-9]))'
    -- Spelled out, because a bare m may be a month elsewhere; the cast reads no setting then.
    then least(
      regexp_replace(regexp_replace(given, 'm($|[0-9])', 'min\1'), '([a-z])([0-9])', '\1 \2', 'g')::interval,
      interval '9999 years'
    )
end;

-- RFC 3339, to the microsecond, or `in 30s`; null for anything else, so that a bad time is a sentence and not a failed
-- cast.
create function pgflow.time_of(given jsonb) returns timestamptz
language sql stable parallel safe
return case
  when jsonb_typeof(given) = 'string' and given #>> '{}' like 'in %'
    then now() + pgflow.interval_of(substring(given #>> '{}', 4))
  when jsonb_typeof(given) = 'string'
    and (given #>> '{}') ~ (
      '^[2-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]'
      '(:[0-5][0-9]([.][0-9]{1,9})?)?([Zz]|[+-](0[0-9]|1[0-5]):[0-5][0-9])$'
    )
    -- The last day of the month: of its first, a month later, a day earlier.
    and substring(given #>> '{}', 9, 2)::integer <= date_part('day',
      make_date(substring(given #>> '{}', 1, 4)::integer, substring(given #>> '{}', 6, 2)::integer, 1)
      + interval '1 month - 1 day'
    )
    then (given #>> '{}')::timestamptz
end;

-- Whether a delay is from 0 to 100 years. First as intervals compare, with months of 30 days: so the sum cannot overflow.
create function pgflow.is_delay(delay interval) returns boolean
language sql stable parallel safe
return case
  when delay between interval '0' and interval '36525 days' then now() + delay <= now() + interval '36525 days'
  else delay is null
end;

-- An interval may be infinite from PostgreSQL 17 on, and its epoch a number that no integer holds.
create function pgflow.milliseconds_of(given interval) returns bigint
language sql immutable parallel safe
return case
  when given is not null
    then (date_part('epoch', greatest(least(given, interval '31 days'), interval '0')) * 1000)::bigint
end;

-- A number of seconds, or a text that `interval_of` takes, in milliseconds; -1 for anything else. More than 31 days are 31.
create function pgflow.milliseconds_of(given jsonb) returns bigint
language sql stable parallel safe
return case
  when given is not null
    then coalesce(
      case jsonb_typeof(given)
        when 'string' then pgflow.milliseconds_of(pgflow.interval_of(given #>> '{}'))
        -- To the nearest, as Python does.
        when 'number' then round(greatest(least(given::numeric, 2678400), 0) * 1000)::bigint
      end,
      -1
    )
end;

-- A JSON number written as a whole one of at most 6 digits; null for anything else.
create function pgflow.integer_of(given jsonb) returns integer
language sql immutable parallel safe
return case
  when jsonb_typeof(given) = 'number' and octet_length(given #>> '{}') <= 7 and (given #>> '{}') ~ '^-?[0-9]+$'
    then (given #>> '{}')::integer
end;

create function pgflow.uuid_of(given jsonb) returns uuid
language sql immutable parallel safe
return case
  when jsonb_typeof(given) = 'string'
    and octet_length(given #>> '{}') = 36
    and octet_length(replace(given #>> '{}', '-', '')) = 32
    and replace(given #>> '{}', '-', '') ~ '^[0-9A-Fa-f]*$'
    then replace(given #>> '{}', '-', '')::uuid
end;

-- Spend `jobs` of this minute's quota. Null: spent. Otherwise nothing is spent, and it tells what is left.
--
-- No producer waits for another's transaction: each spends in a row that it alone holds, one that is free or a new one, and
-- what counts is the sum of the rows that it sees. So a transaction never brings what is committed, and its own, over
-- the limit; those that are open at the same time do not see each other, and together may exceed it by what they spend.
-- The minute is that of now(), as in jobs.created_at.
create function pgflow.spend_enqueue_quota(queue text, jobs bigint, per_minute integer) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  this_minute constant timestamptz := date_trunc('minute', now(), 'UTC');
  spent bigint;
begin
  -- Read first: once a quota is spent, a flood of refusals writes nothing.
  select coalesce(sum(counter.count), 0) into spent
  from pgflow.enqueue_counters as counter
  where counter.queue = spend_enqueue_quota.queue
    and counter.minute = this_minute;
  if spent + jobs > per_minute then
    return greatest(0, least(per_minute - spent, jobs - 1));
  end if;
  -- As many rows as there are transactions at once. Where a snapshot lasts for the transaction, a row that has changed
  -- since would be an error.
  update pgflow.enqueue_counters as counter
  set count = counter.count + jobs
  where counter.id = (
    select free.id
    from pgflow.enqueue_counters as free
    where free.queue = spend_enqueue_quota.queue
      and free.minute = this_minute
      and current_setting('transaction_isolation') = 'read committed'
    limit 1
    for update skip locked
  );
  if not found then
    insert into pgflow.enqueue_counters (queue, minute, count)
    values (spend_enqueue_quota.queue, this_minute, jobs);
  end if;
  return null;
end
$$;

-- What enqueue may still wait for has a bound, unless the caller set one: a transaction that is open and has enqueued the
-- same job_id, or adds many queues as this one does; the lock of a table. Whether it was set here, to be unset before the
-- function returns; after an error the server does so.
create function pgflow.bound_waits() returns boolean
language sql volatile
return case when current_setting('lock_timeout') = '0' then set_config('lock_timeout', '10s', true) = '10s' else false end;

create function pgflow.unbound_waits(bounded boolean) returns text
language sql volatile
return case when bounded then set_config('lock_timeout', '0', true) end;

-- Write down queues and ranks that a lease has to scan from now on: the first job of each brings it. One element for each
-- job, in the order in which they were sent; `ordinals` is null for one job that was sent alone.
--
-- There is a bound, because each costs every lease and every list; counted only here, and by what this transaction
-- sees. Several transactions may write the same one down: see queue_ranks.
--
-- Those that are open at the same time do not see each other's. So each may add a few at once; one that adds more waits
-- for the one that does so already, and counts what that has committed. At worst twice the bound are in use then, and a
-- few for each open transaction: while one that adds many is open, those that add a few do not see what it adds.
create function pgflow.open_places(queues text[], ranks smallint[], ordinals integer[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  -- Enough for a producer with new kinds of jobs at several priorities, which shall never wait. A hundred such
  -- transactions, as many as a server takes by default, add no more than the bound once more.
  few constant integer := 10;
  -- The second, because a dump brings the numbers of another server's transactions.
  own constant bigint := (
    select count(*)
    from pgflow.queue_ranks
    where opened_by = pg_current_xact_id()
      and used_at = now()
  );
  -- A place comes with its first job.
  firsts constant integer[] := array(
    select min(place.number)::integer
    from unnest(queues, ranks) with ordinality as place (queue, rank, number)
    group by place.queue, place.rank
    order by 1
  );
  wanted constant integer := cardinality(firsts);
  adds_many constant boolean := own + wanted > few;
  isolation constant text := current_setting('transaction_isolation');
  -- Then a wait is no help: what others commit meanwhile stays out of sight.
  is_blind constant boolean := isolation in ('repeatable read', 'serializable');
  most integer;
  known bigint;
  room bigint;
  -- The first place for which there is no room, by its first job.
  beyond integer;
  problem text;
  refused integer[];
  refusal jsonb;
begin
  if adds_many and not is_blind then
    begin
      -- No advisory lock: every role may take those. This mode excludes itself, but neither those who read the bound
      -- nor those who set it. A savepoint that is rolled back gives it back, with what was added since.
      lock table pgflow.gate_limits in share update exclusive mode;
    exception when lock_not_available then
      raise exception using
        errcode = '55P03',
        message = format(
          'transactions that add more than %s queues and priorities take turns, and the one whose turn it is has not '
          'ended within lock_timeout (%s)',
          few, current_setting('lock_timeout')
        );
    end;
  end if;
  -- With a new snapshot.
  most := (select max_queues from pgflow.gate_limits);
  known := (
    select count(*)
    from (
      select distinct queue, rank
      from pgflow.queue_ranks
      where not retired
    ) as live
  );
  room := greatest(0, most - known);
  if room < wanted then
    problem := format('%s of at most %s queues and priorities are in use (max_queues)', known + room, most);
    if room > 0 then
      problem := format('%s, %s of them new with this call', problem, room);
    end if;
  elsif adds_many and is_blind then
    room := greatest(0, few - own);
    problem := format(
      'a transaction in %s adds at most %s queues and priorities, for it does not see what others add; '
      'enqueue in READ COMMITTED, or in several transactions',
      upper(isolation), few
    );
  end if;
  if problem is not null then
    beyond := firsts[room + 1];
    -- Every job of a place for which there is no room: without them, the rest passes.
    refused := array(
      select job.number
      from unnest(queues, ranks) with ordinality as job (queue, rank, number)
      where (job.queue, job.rank) in (
        select queues[place.first], ranks[place.first]
        from unnest(firsts[room + 1:]) as place (first)
      )
      order by job.number
    );
    refusal := jsonb_build_object(
      'reason_code', 'TOO_MANY_QUEUES', 'queue', queues[beyond], 'limit', most, 'known', known,
      'jobs', cardinality(refused)
    );
    if ordinals is not null then
      refusal := refusal || jsonb_build_object(
        'ordinals', array(select ordinals[job.number] from unnest(refused) as job (number))
      );
    end if;
    raise exception using
      errcode = 'PF003',
      message = format(
        '%squeue "%s" with priority %s would be new, and %s',
        'job ' || ordinals[beyond] || ': ', queues[beyond], -ranks[beyond], problem
      ),
      detail = refusal || jsonb_build_object('refused', jsonb_build_array(refusal));
  end if;
  insert into pgflow.queue_ranks (queue, rank)
  select queues[place.first], ranks[place.first]
  from unnest(firsts) as place (first);
end
$$;

-- Enqueue one job and return its id. Null for any parameter means its default.
--
-- The same job_id twice is one job, also when it has finished or is in the archive: its id comes back and nothing is
-- written. An unknown id of a time whose jobs have been pruned is refused (PF422): it may have run.
create function pgflow.enqueue(
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
  meta_bytes constant integer := octet_length(enqueue.meta::text);
  timeout_ms constant bigint := pgflow.milliseconds_of(enqueue.job_timeout);
  due_at timestamptz := coalesce(enqueue.run_at, now());
  problem text;
  policy record;
  room bigint;
  marks record;
  bounded constant boolean := pgflow.bound_waits();
begin
  problem := pgflow.name_problem(enqueue.job_type, to_queue);
  if problem is null and enqueue.delay is not null then
    if enqueue.run_at is not null then
      problem := 'run_at and delay exclude each other';
    elsif pgflow.is_delay(enqueue.delay) then
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
  -- A job that is sent again is the same one, whatever the limits are by now; and has been paid for.
  if enqueue.job_id is not null and (rate_limit > 0 or bytes > size_limit or meta_bytes > 16384) then
    -- Apart: an expression that reads a table costs each call.
    if exists (select from pgflow.jobs where id = new_id)
      or exists (select from pgflow.jobs_archive where id = new_id)
    then
      perform pgflow.unbound_waits(bounded);
      return new_id;
    end if;
  end if;
  if meta_bytes > 16384 then
    raise exception using errcode = 'PF400', message = 'meta must not exceed 16384 bytes';
  end if;
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
    perform pgflow.unbound_waits(bounded);
    return new_id;
  end if;
  -- After the insert, with a new snapshot: a job that goes to the archive meanwhile is in jobs or in the archive then.
  if enqueue.job_id is not null then
    select history_marks.archived_until, history_marks.pruned_until into marks
    from pgflow.history_marks;
    if new_id <= marks.archived_until and exists (select from pgflow.jobs_archive where id = new_id) then
      delete from pgflow.jobs
      where id = new_id;
      perform pgflow.unbound_waits(bounded);
      return new_id;
    end if;
    if new_id <= marks.pruned_until then
      raise exception using errcode = 'PF422', message = pgflow.pruned_problem(marks.pruned_until);
    end if;
  end if;
  insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
  values (to_queue, -to_priority, due_at, new_id, enqueue.job_type);

  if not exists (select from pgflow.queue_ranks where queue = to_queue and rank = -to_priority and not retired) then
    perform pgflow.open_places(array[to_queue], array[-to_priority]::smallint[], null);
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
  perform pgflow.unbound_waits(bounded);
  return new_id;
end
$$;

-- Enqueue up to 1,000 jobs and return their ids in order: all of them or none.
--
-- `jobs` is an array of objects with the fields of POST /jobs: job_type, payload_json, queue, run_at, priority,
-- max_attempts, job_id, job_timeout, meta.
-- The other parameters are for elements that lack the field; `job_ids` runs parallel to `jobs`. A refusal names a job, and
-- its DETAIL lists the ordinals (from 1) of everything that was refused: without those, the rest passes.
create function pgflow.enqueue_many(
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
  bounded constant boolean := pgflow.bound_waits();
begin
  problem := case
    when jsonb_typeof(jobs) is distinct from 'array' then 'jobs must be a JSON array of objects'
    when jsonb_array_length(jobs) > 1000 then 'a call takes at most 1000 jobs'
    when enqueue_many.run_at is not null and delay is not null then 'run_at and delay exclude each other'
    when not pgflow.is_delay(delay) then 'delay must be from 0 to 100 years'
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
      -- What is no string is no name: neither is `!`.
      case
        when given.queue is null then coalesce(enqueue_many.queue, 'default')
        when jsonb_typeof(given.queue) = 'string' then given.queue #>> '{}'
        else '!'
      end as queue,
      case
        when given.job_type is null then coalesce(enqueue_many.job_type, '')
        when jsonb_typeof(given.job_type) = 'string' then given.job_type #>> '{}'
        else '!'
      end as job_type,
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
      octet_length(coalesce(given.meta, enqueue_many.meta)::text) as meta_bytes,
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
  -- What exceeds a limit of size; what is sent again is the same job, whatever the limits are by now.
  excess as materialized (
    select
      ordinal, queue, bytes, size_limit, size_from_policy,
      bytes > size_limit and not is_known as has_large_payload,
      meta_bytes > 16384 and not is_known as has_large_meta
    from (
      select
        parsed.ordinal, parsed.queue, parsed.bytes, parsed.meta_bytes, names.size_limit, names.size_from_policy,
        -- `offset 0`: looked up by its key for each, and not hashed with the whole archive.
        exists (select from pgflow.jobs where id = parsed.id offset 0)
        or exists (select from pgflow.jobs_archive where id = parsed.id offset 0) as is_known
      from parsed
      join names using (queue, job_type)
      where parsed.bytes > names.size_limit or parsed.meta_bytes > 16384
    ) as exceeding
  ),
  problems as materialized (
    select ordinal, problem
    from (
      select
        parsed.ordinal,
        coalesce(
          names.problem,
          pgflow.field_problem(
            parsed.priority, parsed.max_attempts, parsed.run_at, parsed.timeout_ms, parsed.meta, parsed.id, horizon
          ),
          pgflow.payload_problem(parsed.payload, parsed.bytes),
          case when excess.has_large_meta then 'meta must not exceed 16384 bytes' end
        ) as problem
      from parsed
      join names using (queue, job_type)
      left join excess using (ordinal)
    ) as checked
    where problem is not null
  ),
  too_large as materialized (
    select ordinal, queue, bytes, size_limit, size_from_policy
    from excess
    where has_large_payload
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
    ) as wanted
  ),
  inserted as (
    insert into pgflow.jobs (id, queue, job_type, payload, priority, max_attempts, run_at, timeout_ms, meta)
    select id, queue, job_type, payload, priority, max_attempts, run_at, timeout_ms, meta
    from parsed
    where not exists (select from problems)
      and not exists (select from too_large)
      and not exists (select from charges where room is not null)
      -- Only what is sent again can be larger than the table takes.
      and bytes <= 16777216
    -- Two that send the same ids wait for each other in one order.
    order by id
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
  opened as materialized (
    select
      array_agg(parsed.queue order by parsed.ordinal) as queues,
      array_agg((-parsed.priority)::smallint order by parsed.ordinal) as ranks,
      array_agg(parsed.ordinal order by parsed.ordinal) as ordinals
    from parsed
    join places on places.queue = parsed.queue and places.rank = -parsed.priority
    where not exists (
      select
      from pgflow.queue_ranks as known
      where known.queue = places.queue
        and known.rank = places.rank
        and not known.retired
    )
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
    (select queues from opened) as new_queues,
    (select ranks from opened) as new_ranks,
    (select ordinals from opened) as new_ordinals,
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
          'job %s: queue "%s" takes at most %s jobs a minute (max_enqueue_per_minute)',
          outcome.refused #>> '{0,ordinals,0}', outcome.refused #>> '{0,queue}', outcome.refused #>> '{0,limit}'
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

  if outcome.new_queues is not null then
    perform pgflow.open_places(outcome.new_queues, outcome.new_ranks, outcome.new_ordinals);
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
  perform pgflow.unbound_waits(bounded);
  return coalesce(outcome.ids, '{}');
end
$$;

-- Count what enqueue has refused, and return whether it was counted: rows of queue, reason_code, jobs and details.
--
-- A function, because a grant on the table would let its holder lock it. It waits for none: each transaction counts in a row
-- that it alone holds, as for enqueue quotas, and if the whole table is locked it gives up.
create function pgflow.record_refusals(refusals jsonb) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
#variable_conflict use_column
declare
  this_minute constant timestamptz := date_trunc('minute', now(), 'UTC');
  refusal record;
begin
  for refusal in
    -- Text first: a cast that fails would be an error in words that are not ours.
    select
      given.queue, given.reason_code, sum(given.jobs::bigint)::bigint as jobs,
      -- The evidence of one of them.
      (array_agg(given.details))[1] as details
    from jsonb_to_recordset(refusals) as given (queue text, reason_code text, jobs text, details jsonb)
    -- What the gate says, and nothing else: every producer may call this.
    where (octet_length(given.queue) <= 63 and given.queue ~ '^[A-Za-z0-9][A-Za-z0-9_.-]*$' or given.queue = '(new)')
      and given.reason_code in ('PAYLOAD_TOO_LARGE', 'ENQUEUE_RATE_EXCEEDED', 'TOO_MANY_QUEUES')
      and given.jobs ~ '^[0-9]{1,4}$'
      and jsonb_typeof(given.details) = 'object'
      and octet_length(given.details::text) <= 4096
    group by given.queue, given.reason_code
  loop
    -- Where a snapshot lasts for the transaction, a row that has changed since would be an error.
    update pgflow.ingest_decisions as decision
    set count = decision.count + refusal.jobs, last_at = now(), details_json = refusal.details
    where decision.id = (
      select free.id
      from pgflow.ingest_decisions as free
      where free.queue = refusal.queue
        and free.reason_code = refusal.reason_code
        and free.minute = this_minute
        and current_setting('transaction_isolation') = 'read committed'
      limit 1
      for update skip locked
    );
    if not found then
      insert into pgflow.ingest_decisions (minute, count, queue, decision, reason_code, details_json)
      values (this_minute, refusal.jobs, refusal.queue, 'DENIED', refusal.reason_code, refusal.details);
    end if;
  end loop;
  return true;
exception when lock_not_available then
  return false;
end
$$;

revoke execute on function pgflow.record_refusals(jsonb) from public;
revoke execute on function pgflow.is_delay(interval) from public;
revoke execute on function pgflow.uuid7_at(bigint) from public;
revoke execute on function pgflow.uuid7_ticks() from public;
revoke execute on function pgflow.uuid7() from public;
revoke execute on function pgflow.name_problem(text, text) from public;
revoke execute on function pgflow.field_problem(integer, integer, timestamptz, bigint, jsonb, uuid, uuid) from public;
revoke execute on function pgflow.numbers_fit_float64(jsonb) from public;
revoke execute on function pgflow.payload_problem(jsonb, integer) from public;
revoke execute on function pgflow.interval_of(text) from public;
revoke execute on function pgflow.time_of(jsonb) from public;
revoke execute on function pgflow.milliseconds_of(jsonb) from public;
revoke execute on function pgflow.milliseconds_of(interval) from public;
revoke execute on function pgflow.integer_of(jsonb) from public;
revoke execute on function pgflow.uuid_of(jsonb) from public;
revoke execute on function pgflow.spend_enqueue_quota(text, bigint, integer) from public;
revoke execute on function pgflow.bound_waits() from public;
revoke execute on function pgflow.unbound_waits(boolean) from public;
revoke execute on function pgflow.open_places(text[], smallint[], integer[]) from public;
revoke execute on function pgflow.enqueue(
  text, jsonb, text, integer, integer, timestamptz, interval, interval, jsonb, uuid, integer, integer
) from public;
revoke execute on function pgflow.enqueue_many(
  jsonb, text, text, integer, integer, timestamptz, interval, interval, jsonb, uuid[], integer, integer
) from public;
