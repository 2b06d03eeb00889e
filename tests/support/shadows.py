"""Plants what would run in place of ours: functions, operators, views and types that
have the names which our statements use, as a role that may create in `public`.
"""

# ruff: noqa: E501 - SQL is as wide as in sql/; visitors are named after nodes

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from pglast import ast, parse_sql
from pglast.visitors import Visitor

from pgflow_cli.repository import sqlfiles


class Names(Visitor):  # type: ignore[misc]
    """What statements name without a schema."""

    def __init__(self) -> None:
        self.functions: set[str] = set()
        self.operators: set[str] = {"=", "<", ">", "<=", ">="}
        self.relations: set[str] = set()
        self.types: set[str] = set()

    def visit_FuncCall(self, _: object, node: ast.FuncCall) -> None:
        if len(node.funcname) == 1:
            self.functions.add(node.funcname[0].sval)

    def visit_A_Expr(self, _: object, node: ast.A_Expr) -> None:
        if len(node.name) == 1:
            self.operators.add(node.name[0].sval)

    def visit_RangeVar(self, _: object, node: ast.RangeVar) -> None:
        if node.schemaname is None:
            self.relations.add(node.relname)

    def visit_TypeName(self, _: object, node: ast.TypeName) -> None:
        if node.names and len(node.names) == 1:
            self.types.add(node.names[0].sval)


def names() -> Names:
    """Return the names in every statement and migration."""
    found = Names()
    for text in _texts():
        found(parse_sql(text))
    return found


def _texts() -> Iterator[str]:
    for path in sorted(sqlfiles.queries().values()):
        yield sqlfiles.statement(path.stem).text.decode()
    for file in sqlfiles.migrations():
        yield file.text


# A sequence counts, whatever becomes of the transaction.
_TRAP = """
create sequence public.caught;
create function public.trap(what text) returns boolean language plpgsql as $$
begin
  perform pg_catalog.nextval('public.caught');
  raise log 'a shadow of % runs as %', what, current_user;
  return true;
end
$$;
grant usage on sequence public.caught to public;
"""

_FUNCTIONS = """
do $plant$
declare
  shadow record;
begin
  for shadow in
    select distinct proname, arguments, case
        when result like 'any%' or result = 'internal' then coalesce(nullif(kind, ''), 'text')
        else result
      end as result, proretset
    from (
      select p.proname, p.proretset, format_type(p.prorettype, null) as result, concrete.kind,
        (
          select string_agg(
            case
              when format_type(t, null) in ('anyarray', 'anycompatiblearray') then concrete.kind || '[]'
              when format_type(t, null) like 'any%' then concrete.kind
              else format_type(t, null)
            end, ', ' order by n
          )
          from unnest(p.proargtypes::oid[]) with ordinality as a (t, n)
        ) as arguments
      from pg_proc as p
      cross join (values ('text'), ('uuid'), ('integer'), ('bigint'), ('jsonb'), ('timestamptz')) as concrete (kind)
      where p.pronamespace = 'pg_catalog'::regnamespace
        and p.proname = any (current_setting('shadows.functions')::text[])
        and p.prokind in ('f', 'a', 'w')
    ) as known
    where coalesce(arguments, '') !~ 'internal|cstring|"any"|record|anyrange|trigger'
      and result !~ 'trigger|cstring|record|void'
  loop
    begin
      execute format(
        'create function public.%I(%s) returns %s %s language plpgsql as '
        '$f$ begin perform public.trap(%L); return; exception when others then return null; end $f$',
        shadow.proname, shadow.arguments, case when shadow.proretset then 'setof' else '' end,
        shadow.result, shadow.proname
      );
    exception when others then
      begin
        execute format(
          'create function public.%I(%s) returns %s language plpgsql as '
          '$f$ begin perform public.trap(%L); return null; end $f$',
          shadow.proname, shadow.arguments, shadow.result, shadow.proname
        );
      exception when others then
        null;
      end;
    end;
  end loop;
end
$plant$
"""

_OPERATORS = """
do $plant$
declare
  shadow record;
begin
  for shadow in
    select oid, oprname, oprleft, oprright,
      format_type(oprleft, null) as l, format_type(oprright, null) as r, format_type(oprresult, null) as result
    from pg_operator
    where oprnamespace = 'pg_catalog'::regnamespace
      and oprname = any (current_setting('shadows.operators')::text[])
      and format_type(oprleft, null) !~ 'any|internal|cstring|record'
      and format_type(oprright, null) !~ 'any|internal|cstring|record'
  loop
    execute format(
      'create function public.shadow_%s(%s %s) returns %s language plpgsql as '
      '$f$ begin perform public.trap(%L); return null; end $f$',
      shadow.oid, case when shadow.oprleft = 0 then '' else shadow.l || ',' end, shadow.r,
      shadow.result, shadow.oprname
    );
    execute format(
      'create operator public.%s (%s rightarg = %s, function = public.shadow_%s)',
      shadow.oprname, case when shadow.oprleft = 0 then '' else format('leftarg = %s,', shadow.l) end,
      shadow.r, shadow.oid
    );
  end loop;
end
$plant$
"""

_RELATIONS_AND_TYPES = """
do $plant$
declare
  shadow record;
begin
  for shadow in
    select relname, (
        select string_agg(quote_ident(attname), ', ' order by attnum)
        from pg_attribute
        where attrelid = pg_class.oid
          and attnum > 0
          and atttypid <> 'anyarray'::regtype
      ) as columns
    from pg_class
    where relnamespace = 'pg_catalog'::regnamespace
      and relname = any (current_setting('shadows.relations')::text[])
  loop
    execute format(
      'create view public.%1$I as select %2$s from pg_catalog.%1$I where public.trap(%1$L)', shadow.relname, shadow.columns
    );
  end loop;
  for shadow in
    select typname
    from pg_type
    where typnamespace = 'pg_catalog'::regnamespace
      and typname = any (current_setting('shadows.types')::text[])
      and typname not in ('regclass', 'regnamespace', 'oid')
      and typtype <> 'p'
  loop
    execute format(
      'create domain public.%1$I as pg_catalog.%1$I check (public.trap(%1$L))', shadow.typname
    );
  end loop;
end
$plant$
"""


def plant(url: str, role: str) -> int:
    """Plant the shadows as a role that may create in `public`; count them."""
    found = names()
    with psycopg.connect(url, options="-c search_path=pg_catalog") as connection:
        connection.read_only = False
        connection.execute(f"set session authorization {role}")
        connection.execute(_TRAP)
        for kind in ("functions", "operators", "relations", "types"):
            connection.execute(
                "select set_config(%s, %s::text[]::text, false)",
                (f"shadows.{kind}", sorted(getattr(found, kind))),
            )
        for text in (_FUNCTIONS, _OPERATORS, _RELATIONS_AND_TYPES):
            connection.execute(text)
        row = connection.execute(
            "select (select count(*) from pg_proc where pronamespace = s.oid)"
            " + (select count(*) from pg_operator where oprnamespace = s.oid)"
            " + (select count(*) from pg_class where relnamespace = s.oid)"
            " from pg_namespace as s where nspname = 'public'"
        ).fetchone()
        assert row is not None
        return int(row[0])


def caught(url: str) -> bool:
    """Return whether a shadow has run."""
    with psycopg.connect(url, options="-c search_path=pg_catalog") as connection:
        row = connection.execute("select is_called from public.caught").fetchone()
        assert row is not None
        return bool(row[0])
