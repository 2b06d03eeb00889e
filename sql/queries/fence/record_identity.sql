-- Record the present identity as the right one, in a new epoch: the fence is down.
insert into pgflow.database_identity (system_identifier, database_oid, table_oid)
select system_identifier, database_oid, table_oid
from pgflow.present_identity
on conflict (only_row) do update
set system_identifier = excluded.system_identifier,
    database_oid = excluded.database_oid,
    table_oid = excluded.table_oid,
    epoch = excluded.epoch,
    recorded_at = excluded.recorded_at,
    fenced_at = null,
    fenced_by = null,
    fence_reason = null,
    load_began = null,
    load_pruned_until = null
returning epoch::text
