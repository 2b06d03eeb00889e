-- Be the one who changes the schema. A row, because every role may take advisory locks, and a pooler loses them.
select version
from pgflow.migrations
where version = 0
for update
