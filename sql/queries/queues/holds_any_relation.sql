-- Whether schema pgflow holds any table, view or sequence. False where there is no such schema.
select exists (
  select
  from pg_catalog.pg_class
  join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
  where pg_namespace.nspname = 'pgflow'
) as held
