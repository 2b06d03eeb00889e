-- Set the sequences behind what their tables hold: a dump that was loaded over them has set them back.
select setval('pgflow.backups_id_seq', greatest(max(id), pg_sequence_last_value('pgflow.backups_id_seq')))
from pgflow.backups
union all
select setval(
  'pgflow.ingest_decisions_id_seq', greatest(max(id), pg_sequence_last_value('pgflow.ingest_decisions_id_seq'))
)
from pgflow.ingest_decisions
union all
select setval(
  'pgflow.operator_actions_id_seq', greatest(max(id), pg_sequence_last_value('pgflow.operator_actions_id_seq'))
)
from pgflow.operator_actions
union all
select setval(
  'pgflow.policy_decisions_id_seq', greatest(max(id), pg_sequence_last_value('pgflow.policy_decisions_id_seq'))
)
from pgflow.policy_decisions
union all
select setval('pgflow.replay_plans_id_seq', greatest(max(id), pg_sequence_last_value('pgflow.replay_plans_id_seq')))
from pgflow.replay_plans
