-- Say something to whoever listens: here, to oneself, to learn whether the line carries.
select pg_notify('pgflow', %(payload)s::text)
