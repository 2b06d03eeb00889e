-- The statements that make and drop a database of this name; from template0, so that it has no local additions.
select
  'create database ' || quote_ident(%(name)s::text) || ' encoding ''UTF8'' template template0' as create_statement,
  'drop database if exists ' || quote_ident(%(name)s::text) || ' with (force)' as drop_statement,
  exists (select from pg_database where datname = %(name)s::text) as exists
