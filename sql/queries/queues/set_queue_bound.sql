-- Set how many queues and priorities there may be.
update pgflow.gate_limits
set max_queues = %(max_queues)s::integer
