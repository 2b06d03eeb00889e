-- Count refused enqueues; whether they were counted, for it waits for nothing.
--
-- It also runs over connections that are not ours, whose path may find anything first: every name is a full one.
select pgflow.record_refusals(%(refusals)s::pg_catalog.jsonb) as is_recorded
