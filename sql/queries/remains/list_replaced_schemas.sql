-- List the schemas that restores have put aside and left, the oldest first: each with what brings it back.
select
  nspname::text as name,
  concat(
    'begin; drop schema if exists pgflow cascade; drop schema if exists pgflow_restoring; alter schema ',
    quote_ident(nspname), ' rename to pgflow; commit;'
  ) as way_back
from pg_namespace
where starts_with(nspname::text, 'pgflow_replaced_')
order by nspname
