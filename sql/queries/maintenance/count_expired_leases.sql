-- Count expired leases, up to a limit.
select count(*)
from (
  select
  from pgflow.leases
  where expires_at < now()
  limit %(limit)s::integer
) as few
