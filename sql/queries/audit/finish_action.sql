-- Record that an action has ended.
update pgflow.operator_actions
set finished_at = clock_timestamp(),
    details_json = details_json || %(details)s::jsonb
where id = %(action_id)s::bigint
