-- The objects of schema pgflow, valid or not, and the mark of a restore; without the partitions of days, which come and
-- go, and without indexes that only make queries faster.
with ours as materialized (
  select oid
  from pg_namespace
  where nspname = 'pgflow'
),
relations as materialized (
  select class.oid, class.relname, class.relkind, class.relispartition
  from pg_class as class
  where class.relnamespace = (select oid from ours)
    and (not class.relispartition or right(class.relname, 8) = '_default')
)
select 'mark'::text as kind, nspname::text as name, true as sound
from pg_namespace
where nspname = 'pgflow_restoring'
union all
select
  case
    when relkind = 'v' then 'view'
    when relkind = 'S' then 'sequence'
    when relispartition then 'partition'
    else 'table'
  end,
  relname::text,
  true
from relations
where relkind in ('r', 'p', 'v', 'S')
union all
select
  'constraint',
  concat(relations.relname, '.', entry.conname),
  -- The key of a partitioned table is invalid until those of all its partitions are there.
  entry.convalidated and coalesce((select indisvalid from pg_index where indexrelid = entry.conindid), true)
from pg_constraint as entry
join relations on relations.oid = entry.conrelid
where entry.contype in ('p', 'u', 'f', 'x')
  and not relations.relispartition
union all
select 'index', relations.relname::text, entry.indisvalid
from pg_index as entry
join relations on relations.oid = entry.indexrelid
where entry.indisunique
  and not relations.relispartition
  and not exists (select from pg_constraint where conindid = entry.indexrelid and contype in ('p', 'u', 'x'))
union all
select 'trigger', concat(relations.relname, '.', entry.tgname), true
from pg_trigger as entry
join relations on relations.oid = entry.tgrelid
where not entry.tgisinternal
  and not relations.relispartition
union all
select distinct 'function', proname::text, true
from pg_proc
where pronamespace = (select oid from ours)
