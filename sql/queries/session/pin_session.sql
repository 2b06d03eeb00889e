-- Set these settings, until the transaction ends or for the session. Our search_path does not apply yet: see
-- read_session.
select pg_catalog.set_config(pin.name, pin.value, %(only_now)s::pg_catalog.bool)
from rows from (
  pg_catalog.unnest(%(names)s::pg_catalog.text[]),
  pg_catalog.unnest(%(settings)s::pg_catalog.text[])
) as pin (name, value)
