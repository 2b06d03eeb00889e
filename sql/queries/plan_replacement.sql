-- The statements that put the schema aside, bring it back in place of a half-made one, and drop it in the end.
select
  'alter schema pgflow rename to ' || quote_ident(%(aside)s::text) as park_statement,
  'drop schema if exists pgflow cascade; alter schema ' || quote_ident(%(aside)s::text) || ' rename to pgflow'
    as undo_statement,
  'drop schema ' || quote_ident(%(aside)s::text) || ' cascade' as drop_statement
