-- Compare the identity that was recorded with the present one; recorded columns are null where the row is missing.
select
  recorded_system_identifier,
  present_system_identifier,
  recorded_database_oid::bigint as recorded_database_oid,
  present_database_oid::bigint as present_database_oid,
  recorded_table_oid::bigint as recorded_table_oid,
  present_table_oid::bigint as present_table_oid,
  epoch::text as epoch,
  recorded_at,
  fenced_at,
  fenced_by,
  fence_reason,
  difference,
  closed as fenced
from pgflow.fence
