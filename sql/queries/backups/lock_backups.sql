-- Lock backups until the transaction ends. No row: another session has the lock.
select only_row
from pgflow.backup_lock
for update skip locked
