-- Record how a task of maintain ended.
update pgflow.maintenance_tasks
set result = %(result)s::text,
    detail = %(detail)s::text,
    last_rows = %(rows)s::bigint,
    rows_total = rows_total + %(rows)s::bigint,
    last_seconds = %(seconds)s::float8,
    last_success_at = case when %(result)s::text = 'ok' then now() else last_success_at end
where task = %(task)s::text
