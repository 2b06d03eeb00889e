-- List queues and priorities where jobs wait but no lease looks, because a lost page held their rows of queue_ranks.
with recursive
-- include: unlisted_places
select queue, -rank
from unlisted
order by queue, rank
