-- The versions that have been applied, in order.
select
  version, name, checksum, applied_by,
  to_char(applied_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as applied_at
from pgflow.migrations
where version > 0
order by version
