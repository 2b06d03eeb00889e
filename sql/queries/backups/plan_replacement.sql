-- The statements that put the schema aside, bring it back in place of an incomplete one, and drop it in the end; and
-- statements that first drop triggers with functions of other schemas, because the load may drop and replace these
-- functions.
select
  'alter schema pgflow rename to ' || quote_ident(%(aside)s::text) as park_statement,
  'drop schema if exists pgflow cascade; alter schema ' || quote_ident(%(aside)s::text) || ' rename to pgflow'
    as undo_statement,
  'drop schema ' || quote_ident(%(aside)s::text) || ' cascade' as drop_statement,
  (
    select coalesce(
      string_agg(
        'drop trigger ' || quote_ident(tgname) || ' on pgflow.' || quote_ident(relname) || '; ',
        '' order by relname, tgname
      ),
      ''
    )
    from pg_trigger
    join pg_class on pg_class.oid = tgrelid
    join pg_proc on pg_proc.oid = tgfoid
    where pg_class.relnamespace = to_regnamespace('pgflow')
      and pg_proc.pronamespace <> pg_class.relnamespace
      and not tgisinternal
      -- The trigger of a partition is dropped with its parent's.
      and tgparentid = 0
  ) as loosen_statement
