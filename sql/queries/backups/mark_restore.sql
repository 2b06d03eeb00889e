-- Say that a restore runs here which is not one transaction: it drops the mark once everything has been loaded and the
-- fence is up. A schema of its own, because the dump makes ours.
create schema if not exists pgflow_restoring
