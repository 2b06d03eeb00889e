-- The partitions of the archives that are missing for a day, with the statements that make each.
with missing as (
  select
    parent, key, options, parent || '_archive_' || %(day)s::text as name,
    case
      when parent = 'job_successes' then quote_literal(number)
      else quote_literal(%(first_id)s::uuid)
    end as begins,
    case
      when parent = 'job_successes' then quote_literal(number + 1)
      else quote_literal(%(end_id)s::uuid)
    end as ends
  from (
    values ('jobs', 'id', ''), ('job_attempts', 'job_id', ''),
      ('job_successes', 'day', ' with (toast_tuple_target = 8160)')
  ) as parents (parent, key, options)
  cross join (select to_date(%(day)s::text, 'YYYYMMDD') - date '1970-01-01' as number) as given
  where to_regclass('pgflow.' || parent || '_archive_' || %(day)s::text) is null
),
columns as (
  select parent, string_agg(quote_ident(attname), ', ' order by attnum) as list
  from missing
  join pg_attribute on attrelid = to_regclass('pgflow.' || parent || '_archive')
  where attnum > 0
    and not attisdropped
  group by parent
)
select
  name,
  0 as strays,
  array[
    concat('create table pgflow.', name, ' (like pgflow.', parent, '_archive including all)', options),
    concat(
      'alter table pgflow.', name, ' add constraint id_is_of_its_day check (',
      key, ' >= ', begins, ' and ', key, ' < ', ends, ')'
    ),
    concat(
      'with strays as (delete from pgflow.', parent, '_archive_default where ', key, ' >= ', begins,
      ' and ', key, ' < ', ends, ' returning ', list, ')',
      ' insert into pgflow.', name, ' (', list, ') select ', list, ' from strays'
    ),
    concat(
      'alter table pgflow.', parent, '_archive attach partition pgflow.', name,
      ' for values from (', begins, ') to (', ends, ')'
    )
  ] as statements
from missing
join columns using (parent)
order by name
