-- The process of the session and the values of settings; null for a setting that the server does not know.
--
-- Our settings do not apply yet, so nothing here depends on search_path: functions and types are qualified, and no
-- operator is used.
select
  pg_catalog.pg_backend_pid() as pid,
  pg_catalog.pg_is_in_recovery() as in_recovery,
  (
    select pg_catalog.array_agg(pg_catalog.current_setting(wanted.name, true) order by wanted.ordinal)
    from pg_catalog.unnest(%(names)s::pg_catalog.text[]) with ordinality as wanted (name, ordinal)
  ) as found
