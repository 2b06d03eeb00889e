-- Compare the identity that was recorded with the present one; recorded columns are null where the row is missing.
select
  recorded.system_identifier as recorded_system_identifier,
  present.system_identifier as present_system_identifier,
  recorded.database_oid::bigint as recorded_database_oid,
  present.database_oid::bigint as present_database_oid,
  recorded.table_oid::bigint as recorded_table_oid,
  present.table_oid::bigint as present_table_oid,
  recorded.epoch::text as epoch,
  recorded.recorded_at,
  recorded.fenced_at,
  recorded.fenced_by,
  recorded.fence_reason
from pgflow.present_identity as present
left join pgflow.database_identity as recorded on true
