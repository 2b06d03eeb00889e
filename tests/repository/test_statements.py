"""Every statement file is valid, is used, and is the only place where SQL stands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pgflow_cli
from pgflow_cli.repository import sqlfiles

FILES = sorted(sqlfiles.queries().values())
NAMES = {path.stem for path in FILES}
MODULES = sorted(Path(pgflow_cli.__file__).parent.glob("repository/*.py"))
RUNNERS = {
    "execute",
    "rows",
    "tuples",
    "count",
    "Sent",
    "statement",
    "_made",
    "_listed",
}


def statements_run() -> Iterator[tuple[str, str, str]]:
    """Yield each statement that is run: the module, its name, and by what method."""
    for module in MODULES:
        for method in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(method, ast.FunctionDef):
                for call in ast.walk(method):
                    if isinstance(call, ast.Call) and call.args:
                        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                        first = call.args[0]
                        if name in RUNNERS and isinstance(first, ast.Constant):
                            yield module.stem, str(first.value), method.name


def test_every_statement_prepares_on_the_migrated_schema(connection):
    wrong = {}
    for name in NAMES:
        result = connection.pgconn.prepare(b"", sqlfiles.statement(name).text)
        if result.error_message:
            wrong[name] = result.error_message.decode()
    assert wrong == {}


def test_no_statement_returns_what_only_the_session_tells_how_to_read(connection):
    """An interval is written in the session's own style, and psycopg reads one."""
    interval = connection.adapters.types["interval"].oid
    found = []
    for name in sorted(NAMES):
        prepared = name.encode()
        connection.pgconn.prepare(prepared, sqlfiles.statement(name).text)
        columns = connection.pgconn.describe_prepared(prepared)
        if interval in {columns.ftype(n) for n in range(columns.nfields)}:
            found.append(name)
    assert found == []


def test_a_statement_says_first_what_it_does():
    texts = {path.stem: path.read_text(encoding="utf-8") for path in FILES}
    assert [name for name, text in texts.items() if not text.startswith("-- ")] == []


def test_a_statement_is_written_as_all_others():
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert max(len(line) for line in lines) <= 120, path.stem
        assert "%" not in sqlfiles.statement(path.stem).text.decode(), path.stem
        assert all("select *" not in line for line in lines), path.stem


def test_a_noun_runs_every_statement_of_its_folder_and_no_other():
    assert {(noun, name) for noun, name, _ in statements_run()} == {
        (path.parent.name, path.stem) for path in FILES
    }


def test_a_statement_has_its_name_to_itself():
    assert len(NAMES) == len([*(sqlfiles.root() / "queries").rglob("*.sql")])


def test_a_method_of_one_statement_has_its_name():
    """But for private ones, and those that lock first and then look."""
    methods: dict[str, set[str]] = {}
    for _, name, method in statements_run():
        methods.setdefault(method, set()).add(name)
    single = {m: names for m, names in methods.items() if len(names) == 1}
    misnamed = {m for m, names in single.items() if names != {m}}
    assert {m for m in misnamed if not m.startswith("_")} <= several_statements()


def calls_others(method: str) -> bool:
    return any(re.search(rf"\b{name}\(", method.split("\n", 1)[1]) for name in NAMES)


def several_statements() -> set[str]:
    """Return the methods that open a transaction for what they run, or call others."""
    return {
        method.name
        for module in MODULES
        for method in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(method, ast.FunctionDef)
        and ("transaction()" in (text := ast.unparse(method)) or calls_others(text))
    }


def test_migrations_count_from_one_without_a_gap():
    files = sorted((sqlfiles.root() / "migrations").iterdir())
    assert [int(path.name[:4]) for path in files] == [*range(1, len(files) + 1)]
    assert sqlfiles.latest_version() == len(files)
