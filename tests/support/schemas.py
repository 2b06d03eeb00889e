"""Describes what a schema consists of, so that two can be compared."""

from __future__ import annotations

from tests.support.servers import Database

# Day partitions aside: they depend on the day.
_DESCRIPTION = """
with relations as (
  select oid, relname, relkind, relispartition, reloptions, relacl
  from pg_class
  where relnamespace = 'pgflow'::regnamespace
    and relname !~ '_[0-9]{8}($|_)'
)
select 'relation', relname::text, relkind::text || ' ' || relispartition::text
  || ' ' || coalesce(reloptions::text, '') || ' ' || coalesce(relacl::text, '')
  || case when relkind = 'v' then pg_get_viewdef(oid) else '' end
from relations
union all
select 'column', relname || '.' || attname, attnum::text || ' '
  || format_type(atttypid, atttypmod) || ' ' || attnotnull::text
  || ' ' || coalesce(pg_get_expr(adbin, adrelid), '')
from relations
join pg_attribute on attrelid = oid and attnum > 0 and not attisdropped
left join pg_attrdef on adrelid = attrelid and adnum = attnum
union all
select 'constraint', relname || '.' || conname, pg_get_constraintdef(pg_constraint.oid)
from relations
join pg_constraint on conrelid = relations.oid
union all
select 'index', relname::text, pg_get_indexdef(oid)
from relations
where relkind in ('i', 'I')
union all
select 'function', oid::regprocedure::text, pg_get_functiondef(oid)
from pg_proc
where pronamespace = 'pgflow'::regnamespace
  and prokind <> 'a'
union all
select 'aggregate', aggfnoid::regprocedure::text, concat_ws(' ', aggtransfn, agginitval)
from pg_aggregate
join pg_proc on pg_proc.oid = aggfnoid
where pronamespace = 'pgflow'::regnamespace
union all
select 'migration', version::text, name || ' ' || checksum
from pgflow.migrations
order by 1, 2, 3
"""


def describe_schema(database: Database) -> list[tuple[str, str, str]]:
    """Return every relation, column, constraint, index, function and version."""
    with database.connect() as connection:
        return connection.execute(_DESCRIPTION).fetchall()
