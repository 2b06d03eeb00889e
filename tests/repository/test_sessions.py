"""What a database, a role or the environment sets does not change what pgflow does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pgflow_cli.repository import session
from tests.support import rounds, servers, shadows
from tests.support.private_servers import pgbouncer

Connection = psycopg.Connection[Any]

# Each as far from its default as it goes.
HOSTILE = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "<odd>-05:45",
    "client_encoding": "LATIN1",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "backslash_quote": "off",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "check_function_bodies": "off",
    "client_min_messages": "error",
    "exit_on_error": "on",
    "row_security": "off",
    "search_path": "public, pg_catalog",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "jit": "on",
    "jit_above_cost": "100000000",
    "plan_cache_mode": "force_custom_plan",
    **{
        setting.name: "off"
        for setting in session.PINNED
        if setting.name.startswith("enable_")
    },
    "synchronous_commit": "off",
    "statement_timeout": "60s",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
    "lc_messages": "C.UTF-8",
    "lc_numeric": "C.UTF-8",
    "lc_time": "C.UTF-8",
    "xmloption": "document",
    "xmlbinary": "hex",
}


def test_every_pinned_setting_is_tried() -> None:
    # Of the access method there is but one everywhere.
    names = {setting.name for setting in session.PINNED}
    assert names - HOSTILE.keys() == {"default_table_access_method"}


@dataclass(frozen=True)
class Walk:
    """What was said at each step, and the schema that was made."""

    said: dict[str, str]
    schema: str


@pytest.fixture(scope="module")
def usual(server: servers.Server, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """What is said where nothing is set."""
    database = server.create("pgflow_sessions_usual")
    try:
        return _walk(server, database, database.url, tmp_path_factory.mktemp("usual"))
    finally:
        server.drop(database)


@pytest.mark.timeout(300)
def test_what_a_database_sets_changes_nothing_and_shadows_do_not_run(
    server: servers.Server,
    empty_database: servers.Database,
    tmp_path: Path,
    usual: Walk,
) -> None:
    with _role(server, "planter") as planter:
        connection = empty_database.connect()
        connection.execute(f"grant create on schema public to {planter}")
        assert shadows.plant(empty_database.url, planter) > 1000
        for name, value in HOSTILE.items():
            _set(connection, f"database {empty_database.name}", name, value)
        walk = _walk(server, empty_database, empty_database.url, tmp_path)
        caught = shadows.caught(empty_database.url)
        server.drop(empty_database)  # what the role has planted goes with it
    assert not caught
    _same(walk, usual)


@pytest.mark.timeout(300)
def test_what_a_role_sets_changes_nothing_behind_a_pooler_either(
    server: servers.Server,
    empty_database: servers.Database,
    tmp_path: Path,
    usual: Walk,
) -> None:
    with _role(server, "hostile", "superuser") as role:
        connection = empty_database.connect()
        for name, value in HOSTILE.items():
            _set(connection, f"role {role}", name, value)
        url = empty_database.url.replace("postgres@", f"{role}@", 1)
        with pgbouncer(replace(empty_database, url=url)) as pooled:
            walk = _walk(server, empty_database, pooled, tmp_path)
        server.drop(empty_database)  # what the role has made goes with it
    _same(walk, usual)


def _same(walk: Walk, usual: Walk) -> None:
    different = {
        name: (said, usual.said[name])
        for name, said in walk.said.items()
        if said != usual.said[name]
    }
    assert different == {}, different
    assert walk.schema == usual.schema


def _walk(
    server: servers.Server, database: servers.Database, url: str, folder: Path
) -> Walk:
    said = rounds.walk(url, folder)
    assert "succeeded" in said["jobs list --status succeeded"]
    return Walk(said, _schema(server, database))


def _schema(server: servers.Server, database: servers.Database) -> str:
    """Return the definitions of the schema, without pg_dump's own random words."""
    if server.binaries is None:
        return ""
    dumped = subprocess.run(
        [
            str(server.binaries / "pg_dump"),
            *(
                "--schema-only",
                "--schema",
                "pgflow",
                "--no-owner",
                "--encoding",
                "UTF8",
            ),
            database.url,
        ],
        env={
            "PGOPTIONS": "-c quote_all_identifiers=off"
            " -c standard_conforming_strings=on"
        },
        capture_output=True,
        text=True,
        check=True,
    )
    lines = dumped.stdout.splitlines()
    return "\n".join(line for line in lines if not line.startswith("\\"))


def _set(connection: Connection, whose: str, name: str, value: str) -> None:
    connection.execute(
        sql.SQL("alter {} set {} to {}").format(
            sql.SQL(whose),  # type: ignore[arg-type]
            sql.Identifier(name),
            sql.SQL(", ").join(sql.Literal(part) for part in value.split(", "))
            if name == "search_path"
            else sql.Literal(value),
        )
    )


@contextmanager
def _role(server: servers.Server, name: str, *rights: str) -> Iterator[str]:
    """Make a role for the block; what it owns must be gone by its end."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"create role {name} login {' '.join(rights)}")
        try:
            yield name
        finally:
            connection.execute(f"drop role {name}")
