-- The backup that was taken last, as far as backups were recorded.
select id, started_at, finished_at, file, bytes, sha256, format, verified, schema_version
from pgflow.backups
order by finished_at desc, id desc
limit 1
