-- Count refused enqueues; returns whether they were counted, because it waits for no lock.
--
-- It also runs over the caller's connection, whose search_path may be anything: every name is qualified.
select pgflow.record_refusals(%(refusals)s::pg_catalog.jsonb) as is_recorded
