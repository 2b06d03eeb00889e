-- Record that a version was applied, in the transaction that applied it.
insert into pgflow.migrations (version, name, checksum)
values (%(version)s::integer, %(name)s::text, %(checksum)s::text)
