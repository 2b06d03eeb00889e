-- Every queue that is in use or has a policy; or those of some names. Not what was only refused: names are made up.
select queue
from pgflow.places
where %(names)s::text[] is null
  or queue = any(%(names)s::text[])
union
select queue
from pgflow.queue_policies
where %(names)s::text[] is null
  or queue = any(%(names)s::text[])
order by queue
