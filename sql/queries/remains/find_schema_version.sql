-- The newest version that has been applied; 0 where a restore was killed before it had brought them.
select coalesce(max(version), 0) as version
from pgflow.migrations
