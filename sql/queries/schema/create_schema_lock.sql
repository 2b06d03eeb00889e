-- Version 0: the schema and this table exist. Its row is what everybody locks who changes the schema.
insert into pgflow.migrations (version, name, checksum)
values (0, 'schema_lock', '')
on conflict (version) do nothing
