-- Mark that a restore in several transactions runs here. It removes the mark once everything is loaded and the fence is
-- up. The mark is a schema of its own, because the dump creates schema pgflow.
create schema if not exists pgflow_restoring
