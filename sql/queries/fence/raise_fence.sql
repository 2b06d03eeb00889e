-- Raise the fence in a new epoch: no job is leased until the database is accepted. The recorded identity stays.
--
-- Unless by hand, only if the fence was neither raised nor accepted since the caller read it.
insert into pgflow.database_identity as identity (
  system_identifier, database_oid, table_oid, fenced_at, fenced_by, fence_reason
)
select system_identifier, database_oid, table_oid, now(), %(fenced_by)s::text, %(reason)s::text
from pgflow.present_identity
on conflict (only_row) do update
set epoch = excluded.epoch,
    fenced_at = excluded.fenced_at,
    fenced_by = excluded.fenced_by,
    fence_reason = excluded.fence_reason
where %(seen_epoch)s::uuid is null
  or (identity.epoch = %(seen_epoch)s::uuid and identity.fenced_at is null)
returning epoch::text
