-- No restore is going on: it has brought everything, or all is as it was before.
drop schema if exists pgflow_restoring
