-- How many leases have run out, counted no further than some.
select count(*)
from (
  select
  from pgflow.leases
  where expires_at < now()
  limit %(limit)s::integer
) as few
