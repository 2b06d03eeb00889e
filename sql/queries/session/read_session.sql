-- What the session is like: its process, and each of these settings; null for one that the server does not know.
--
-- Ours are not in force yet, so nothing here is found by a path: functions and types have full names, and nothing is
-- compared.
select
  pg_catalog.pg_backend_pid() as pid,
  pg_catalog.pg_is_in_recovery() as in_recovery,
  (
    select pg_catalog.array_agg(pg_catalog.current_setting(wanted.name, true) order by wanted.ordinal)
    from pg_catalog.unnest(%(names)s::pg_catalog.text[]) with ordinality as wanted (name, ordinal)
  ) as found
