-- Notify all listeners: here the session itself, to test whether notifications arrive.
select pg_notify('pgflow', %(payload)s::text)
