-- How vacuum keeps up with each table of the schema.
select
  class.relname::text as name,
  stats.n_live_tup as live_rows,
  stats.n_dead_tup as dead_rows,
  date_part('epoch', now() - greatest(stats.last_vacuum, stats.last_autovacuum)) as vacuumed_ago,
  coalesce((options.found ->> 'autovacuum_enabled')::boolean, true) as autovacuum_enabled,
  coalesce(
    options.found ->> 'autovacuum_vacuum_threshold', current_setting('autovacuum_vacuum_threshold')
  )::float8 + coalesce(
    options.found ->> 'autovacuum_vacuum_scale_factor', current_setting('autovacuum_vacuum_scale_factor')
  )::float8 * greatest(class.reltuples, 0) as threshold,
  pg_relation_size(class.oid) as heap_bytes,
  pg_indexes_size(class.oid) as index_bytes,
  (
    -- Null where there are no statistics yet, or this role may not read them.
    select sum(avg_width)::float8
    from pg_stats
    where schemaname = 'pgflow'
      and tablename = class.relname
  ) as row_bytes
from pg_class as class
join pg_stat_all_tables as stats on stats.relid = class.oid
cross join lateral (
  select coalesce(jsonb_object_agg(option_name, option_value), '{}') as found
  from pg_options_to_table(class.reloptions)
) as options
where class.relnamespace = 'pgflow'::regnamespace
  and class.relkind in ('r', 'm')
order by class.relname
