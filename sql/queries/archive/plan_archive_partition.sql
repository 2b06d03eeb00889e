-- The partitions of the archives that are missing for a day, with the statements that make each.
with missing as (
  select
    parent, parent || '_archive_' || %(day)s::text as name,
    case parent when 'jobs' then 'id' else 'job_id' end as key,
    quote_literal(%(first_id)s::uuid) as first_id,
    quote_literal(%(end_id)s::uuid) as end_id
  from unnest(array['jobs', 'job_attempts']) as parent
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
    concat('create table pgflow.', name, ' (like pgflow.', parent, '_archive including all)'),
    concat(
      'alter table pgflow.', name, ' add constraint id_is_of_its_day check (',
      key, ' >= ', first_id, ' and ', key, ' < ', end_id, ')'
    ),
    concat(
      'with strays as (delete from pgflow.', parent, '_archive_default where ', key, ' >= ', first_id,
      ' and ', key, ' < ', end_id, ' returning ', list, ')',
      ' insert into pgflow.', name, ' (', list, ') select ', list, ' from strays'
    ),
    concat(
      'alter table pgflow.', parent, '_archive attach partition pgflow.', name,
      ' for values from (', first_id, ') to (', end_id, ')'
    )
  ] as statements
from missing
join columns using (parent)
order by name
