-- Record the replay plan of an action.
update pgflow.operator_actions
set plan_id = %(plan_id)s::bigint
where id = %(action_id)s::bigint
