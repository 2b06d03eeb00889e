-- Record places where jobs wait and that are not in queue_ranks; return their queues and priorities.
--
-- It waits for no producer, and none for it: a transaction that is open brings its place with its job, and several rows
-- may say the same. Beyond the bound of queues, too: those jobs have been accepted.
with recursive
-- include: unlisted_places
, recorded as (
  insert into pgflow.queue_ranks (queue, rank)
  select queue, rank
  from unlisted
  returning queue, rank
)
select queue, -rank
from recorded
order by queue, rank
