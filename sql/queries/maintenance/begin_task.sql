-- Record that a task of maintain begins.
insert into pgflow.maintenance_tasks (task, runner)
values (%(task)s::text, %(runner)s::text)
on conflict (task) do update
set last_started_at = now(),
    result = null,
    runner = excluded.runner
