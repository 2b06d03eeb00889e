-- Version 0: the schema and this table exist. Every change of the schema locks its row.
insert into pgflow.migrations (version, name, checksum)
values (0, 'schema_lock', '')
on conflict (version) do nothing
