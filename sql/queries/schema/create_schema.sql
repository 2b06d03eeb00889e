-- Make the schema that everything stands in. Several first runs may collide here: the losers look again.
create schema if not exists pgflow
