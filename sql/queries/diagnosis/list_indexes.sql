-- Every index of the schema but for those of partitions, which come and go with the days.
select
  class.relname::text as name,
  owner.relname::text as table,
  entry.indisprimary as primary,
  entry.indisvalid and entry.indisready as valid,
  owner.relkind = 'p' as partitioned,
  pg_get_indexdef(class.oid) as definition
from pg_index as entry
join pg_class as class on class.oid = entry.indexrelid
join pg_class as owner on owner.oid = entry.indrelid
where owner.relnamespace = 'pgflow'::regnamespace
  and (not class.relispartition or not entry.indisvalid)
order by class.relname
