-- Record that an operator changes something; what it touches is counted later.
insert into pgflow.operator_actions (actor, action, queue, command, note, details_json)
values (
  %(actor)s::text, %(action)s::text, %(queue)s::text, %(command)s::text, %(note)s::text, %(details)s::jsonb
)
returning id
