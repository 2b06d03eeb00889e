-- Every queue that has ever been used or has a policy.
select queue
from pgflow.queue_ranks
union
select queue
from pgflow.queue_policies
order by queue
