-- Lock the schema against other changes. A row lock, because every role may take advisory locks, and a pooler loses
-- them.
select version
from pgflow.migrations
where version = 0
for update
