-- The statements that put the schema aside, bring it back in place of a half-made one, and drop it in the end; and
-- those that first drop triggers whose functions are others': a load that replaces these must be able to drop them.
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
      -- That of a partition goes with its parent's.
      and tgparentid = 0
  ) as loosen_statement
