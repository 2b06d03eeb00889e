-- Lock the identity of the database until the transaction ends.
select epoch::text
from pgflow.database_identity
for update
