-- Remove the mark of a restore: it has loaded everything, or was undone.
drop schema if exists pgflow_restoring
