-- When each task of maintain last succeeded, and how many rows it has treated in all.
select task, last_success_at, rows_total
from pgflow.maintenance_tasks
order by task
