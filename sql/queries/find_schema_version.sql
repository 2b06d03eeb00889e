-- The newest version that has been applied.
select max(version) as version
from pgflow.migrations
