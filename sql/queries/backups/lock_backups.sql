-- Be the one who takes a backup, until the transaction ends. No row: somebody else is.
select only_row
from pgflow.backup_lock
for update skip locked
