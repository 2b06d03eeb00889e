-- The statements that move a day's partition of jobs, attempts or successes to the archive; no row if there is none.
--
-- `lock` locks only the day against writes. `statements` detach the day, which locks the whole table, insert the rows
-- that stay into the default partition, and attach the rest to the archive under another name. `fold` is for a day with
-- few rows left: all of them move to the default partition.
with named as (
  select
    given.parent, given.parent || '_' || given.day as old_name, given.parent || '_archive_' || given.day as new_name,
    given.end_id, keyed.key, quote_literal(keyed.begins) as begins, quote_literal(keyed.ends) as ends, keyed.stays
  from (
    values (%(parent)s::text, %(day)s::text, %(first_id)s::uuid, %(end_id)s::uuid)
  ) as given (parent, day, first_id, end_id)
  cross join lateral (
    values
      ('jobs', 'id', first_id::text, end_id::text, 'id = any'),
      ('job_attempts', 'job_id', first_id::text, end_id::text, 'job_id = any'),
      (
        'job_successes', 'day', (to_date(day, 'YYYYMMDD') - date '1970-01-01')::text,
        (to_date(day, 'YYYYMMDD') - date '1970-01-01' + 1)::text, 'job_ids && '
      )
  ) as keyed (parent, key, begins, ends, stays)
  where keyed.parent = given.parent
),
columns as (
  select string_agg(quote_ident(attname), ', ' order by attnum) as list
  from named
  join pg_attribute on attrelid = to_regclass('pgflow.' || parent)
  where attnum > 0
    and not attisdropped
)
select
  concat('lock table only pgflow.', old_name, ' in share mode') as lock,
  exists (
    select from pg_constraint
    where conrelid = leaf.oid
      and conname = 'id_is_of_its_day'
      and convalidated
  ) as checked,
  -- Two statements with a commit between them (not valid, validate): the scan of every row then blocks no other
  -- session.
  array[
    concat(
      'alter table pgflow.', old_name, ' drop constraint if exists id_is_of_its_day,',
      ' add constraint id_is_of_its_day check (',
      key, ' >= ', begins, ' and ', key, ' < ', ends, ') not valid'
    ),
    concat('alter table pgflow.', old_name, ' validate constraint id_is_of_its_day')
  ] as checks,
  array_remove(array[
    concat('alter table pgflow.', parent, ' detach partition pgflow.', old_name),
    case
      when cardinality(%(staying)s::uuid[]) > 0 then concat(
        'with staying as (delete from pgflow.', old_name, ' where ', stays, '(',
        quote_literal(%(staying)s::uuid[]), ') returning ', list, ')',
        ' insert into pgflow.', parent, ' (', list, ') select ', list, ' from staying'
      )
    end,
    concat('alter table pgflow.', old_name, ' rename to ', new_name),
    concat(
      'with strays as (delete from pgflow.', parent, '_archive_default where ', key, ' >= ', begins,
      ' and ', key, ' < ', ends, ' returning ', list, ')',
      ' insert into pgflow.', new_name, ' (', list, ') select ', list, ' from strays on conflict do nothing'
    ),
    concat(
      'alter table pgflow.', parent, '_archive attach partition pgflow.', new_name,
      ' for values from (', begins, ') to (', ends, ')'
    ),
    -- enqueue searches the archive for ids up to this one.
    case
      when parent = 'jobs' then concat(
        'update pgflow.history_marks set archived_until = ', quote_literal(end_id), ' where archived_until < ',
        quote_literal(end_id)
      )
    end
  ], null) as statements,
  array[
    concat('alter table pgflow.', parent, ' detach partition pgflow.', old_name),
    concat(
      'insert into pgflow.', parent, ' (', list, ') select ', list, ' from pgflow.', old_name
    ),
    concat('drop table pgflow.', old_name)
  ] as fold,
  leaf.reltuples::bigint as estimate
from named
cross join columns
join pg_class as leaf on leaf.oid = to_regclass('pgflow.' || old_name)
join pg_inherits on inhrelid = leaf.oid
where inhparent = to_regclass('pgflow.' || parent)
