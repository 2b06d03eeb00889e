-- How to read everything that the schema holds: its tables in parts of some blocks, then each index from end to end.
-- Damage shows where it is read, and nowhere else.
with tables as materialized (
  select
    oid, relname, concat('pgflow.', quote_ident(relname)) as name,
    pg_relation_size(oid) / current_setting('block_size')::bigint as blocks
  from pg_class
  where relnamespace = 'pgflow'::regnamespace
    and relkind = 'r'
),
indexes as materialized (
  select
    tables.name as table_name, concat('pgflow.', quote_ident(class.relname)) as name, method.amname,
    pg_get_indexdef(class.oid, 1, true) as first_key,
    (
      select string_agg(pg_get_indexdef(class.oid, place, true), ', ' order by place)
      from generate_series(1, entry.indnkeyatts) as key (place)
    ) as keys,
    coalesce(' and ' || pg_get_expr(entry.indpred, entry.indrelid), '') as condition
  from tables
  join pg_index as entry on entry.indrelid = tables.oid
  join pg_class as class on class.oid = entry.indexrelid
  join pg_am as method on method.oid = class.relam
  where entry.indisvalid
)
select name, false as is_index, statement
from (
  select
    name, first,
    -- As text: what is kept out of the row is read as well.
    concat(
      'select count(row_::text) from only ', name, ' as row_ where ctid >= ''(', first, ',0)'' and ctid < ''(',
      first + %(blocks)s::bigint, ',0)'''
    ) as statement
  from tables
  cross join lateral generate_series(0, blocks - 1, %(blocks)s::bigint) as part (first)
  order by name, first
) as part
union all
select name, true, statement
from (
  select
    name,
    case amname
      -- In its order: what does not follow the index would have to sort.
      when 'btree' then concat(
        'select count(*) from (select from only ', table_name, ' where true', condition, ' order by ', keys,
        ' offset 0) as entry'
      )
      else concat(
        'select count(*) from only ', table_name, ' where ', first_key, case amname
          when 'gist' then ' <@ ''(,)'''
          when 'gin' then ' @> ''{}'''
          else ' >= ''-infinity'''
        end, condition
      )
    end as statement
  from indexes
  order by name
) as whole
