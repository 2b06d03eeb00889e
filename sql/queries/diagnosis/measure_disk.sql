-- The size of the database. SQL does not tell the free space.
select
  pg_database_size(current_database()) as database_bytes,
  (
    select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
    from pg_class
    where relnamespace = 'pgflow'::regnamespace
      and relkind in ('r', 'm')
  ) as schema_bytes
