-- Store the meaning of the handlers' error codes, for operators. Rows are written only if they change.
insert into pgflow.error_codes as known (code, retry_class, suggested_action)
select code, retry_class, suggested_action
from jsonb_to_recordset(%(codes)s::jsonb) as declared (code text, retry_class text, suggested_action text)
-- In one order, so that supervisors that start at the same time cannot deadlock.
order by code
on conflict (code) do update
set retry_class = excluded.retry_class,
    suggested_action = excluded.suggested_action,
    updated_at = now()
where (known.retry_class, known.suggested_action) is distinct from (excluded.retry_class, excluded.suggested_action)
