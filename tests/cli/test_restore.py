"""`pgflow restore`: equal rows behind the fence, or everything as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgflow_cli.local.clients import Clients
from tests.conftest import RunsPgflow
from tests.repository.test_cycle import lease
from tests.repository.test_fencing import register
from tests.support.backup_tools import (
    another,
    digests,
    dump_plain,
    found_clients,
    slow_pg_dump,
    take,
)
from tests.support.executable import Fork
from tests.support.jobs import audit, plant
from tests.support.servers import Database, Server

Connection = psycopg.Connection[Any]


@pytest.fixture(autouse=True)
def _every_trial_ends_with_the_audit(connection: Connection) -> Any:
    yield
    assert audit(connection) == (0, 0)


@pytest.fixture
def empty(server: Server) -> Iterator[Database]:
    with another(server, f"pgflow_target_{os.getpid()}") as made:
        yield made


@pytest.fixture
def real(server: Server) -> Clients:
    return found_clients(server)


@pytest.fixture(scope="module")
def taken(
    server: Server, template: Database, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A folder with a backup of a database with three jobs, and its digests."""
    folder = tmp_path_factory.mktemp("backup")
    return folder, take(server, template, folder, jobs=3)


@pytest.fixture
def dumped(taken: tuple[Path, dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """That backup as `a.dump`, for this test."""
    folder, digested = taken
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return digested


@pytest.fixture
def filled(connection: Connection, repository: Any) -> list[str]:
    """Jobs that wait, jobs that run, and one that is paused in its queue."""
    jobs = plant(connection, 20, payload='{"text": "\\u00fc \\\\ \\" \\t"}')
    plant(connection, 3, queue="emails")
    connection.execute("insert into pgflow.queue_policies (queue) values ('emails')")
    lease(repository, room=4)
    return jobs


def is_fenced(pgflow: RunsPgflow, database: Database) -> bool:
    done = pgflow("fence", "status", "--exit-code", env={"DATABASE_URL": database.url})
    return done.returncode == 5


@pytest.mark.parametrize(
    ("format_", "more"),
    [
        ("custom", []),
        ("directory", ["--jobs", "2", "--no-owner"]),
        ("plain", []),
    ],
)
@pytest.mark.usefixtures("filled")
def test_a_round_trip_brings_equal_rows_behind_the_fence(
    pgflow: RunsPgflow,
    database: Database,
    empty: Database,
    format_: str,
    more: list[str],
) -> None:
    assert pgflow("backup", "a", "--format", format_).returncode == 0
    before = digests(database)
    done = pgflow("restore", "a", "--into", empty.url, *more)
    assert done.returncode == 0, done.stderr
    assert "as the manifest says" in done.stderr
    assert "pgflow fence accept" in done.stderr
    assert digests(empty) == before
    assert is_fenced(pgflow, empty)
    variables = {"DATABASE_URL": empty.url}
    assert pgflow("work", "--simulate", "--drain", env=variables).returncode == 78
    with psycopg.connect(empty.url) as restored:
        assert audit(restored) == (0, 0)
        assert restored.execute("select count(*) from pgflow.leases").fetchone() == (1,)
    accepted = pgflow("fence", "accept", "--confirm", empty.name, env=variables)
    assert "accepted: 4 interrupted jobs (dlq), 2 queues paused" in accepted.stderr
    with psycopg.connect(empty.url) as restored:
        assert audit(restored) == (0, 0)
        actions = restored.execute("select action from pgflow.operator_actions")
        assert actions.fetchall() == [("restore",), ("fence.accept",)]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("format_", ["custom", "plain"])
def test_a_backup_reads_and_restores_through_pipes(
    database: Database, empty: Database, format_: str
) -> None:
    """As `pgflow backup - | pgflow restore -` does."""
    before = digests(database)
    reader, writer = os.pipe()
    environment = {**os.environ, "DATABASE_URL": database.url}
    writing = Fork(
        *("backup", "-", "--format", format_), environment=environment, stdout=writer
    )
    os.close(writer)
    environment["DATABASE_URL"] = empty.url
    reading = Fork(
        *("restore", "-", "--clean", "--confirm", empty.name),
        environment=environment,
        stdin=reader,
    )
    os.close(reader)
    assert writing.wait() == 0
    _, said = reading.communicate()
    assert reading.returncode == 0, said
    assert "nothing is compared" in said
    assert digests(empty) == before


@pytest.mark.usefixtures("dumped")
def test_the_database_is_made_if_it_is_to_be(
    pgflow: RunsPgflow, server: Server
) -> None:
    name = f"pgflow_made_{os.getpid()}"
    url = server.url_of(name)
    missing = pgflow("restore", "a.dump", "--into", url)
    assert missing.returncode == 78
    assert "--create" in missing.stderr
    try:
        done = pgflow("restore", "a.dump", "--into", url, "--create")
        assert done.returncode == 0, done.stderr
        again = pgflow("restore", "a.dump", "--into", url, "--create")
        assert again.returncode == 4
    finally:
        server.drop(Database(url, name))


@pytest.mark.usefixtures("dumped")
def test_data_are_not_restored_onto(
    pgflow: RunsPgflow, database: Database, connection: Connection
) -> None:
    plant(connection, 2)
    before = digests(database)
    for arguments in (
        ["restore", "a.dump"],
        ["restore", "a.dump", "--clean"],
        ["restore", "a.dump", "--clean", "--confirm", "other"],
        ["restore", "a.dump", "--create"],
    ):
        done = pgflow(*arguments)
        assert done.returncode == 4, arguments
        assert "nothing was changed" in done.stderr
    assert digests(database) == before


def test_clean_replaces_what_was_there(
    pgflow: RunsPgflow, database: Database, connection: Connection
) -> None:
    connection.execute("create table notes (t text); insert into notes values ('old')")
    plant(connection, 3)
    assert pgflow("backup", "a.dump", "--no-record").returncode == 0
    before = digests(database)
    plant(connection, 2)
    connection.execute("insert into notes values ('new')")
    connection.execute("create table pgflow.of_a_later_version (x integer)")
    done = pgflow("restore", "a.dump", "--clean", "--confirm", database.name)
    assert done.returncode == 0, done.stderr
    assert digests(database) == before
    assert connection.execute("select t from notes").fetchall() == [("old",)]
    assert is_fenced(pgflow, database)
    schemas = connection.execute(
        "select nspname from pg_namespace where starts_with(nspname, 'pgflow')"
    ).fetchall()
    assert schemas == [("pgflow",)]


def test_clean_replaces_the_triggers_of_others(
    pgflow: RunsPgflow, database: Database, connection: Connection
) -> None:
    """Of whom the dump has the functions, too: an alert about dead letters, say."""
    connection.execute(
        "create function alert() returns trigger language plpgsql as"
        " $$ begin return null; end $$;"
        ' create trigger "An alert" after insert on pgflow.dead_letters'
        " for each row execute function alert();"
        " create trigger alert after insert on pgflow.jobs"
        " for each row execute function alert()"
    )
    assert pgflow("backup", "a.dump", "--no-record").returncode == 0
    done = pgflow("restore", "a.dump", "--clean", "--confirm", database.name)
    assert done.returncode == 0, done.stderr
    triggers = connection.execute(
        "select tgname from pg_trigger where tgfoid = 'alert'::regproc"
        " and tgparentid = 0 order by tgname"
    ).fetchall()
    assert triggers == [("An alert",), ("alert",)]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_restore_that_fails_brings_back_what_was_there(
    pgflow: RunsPgflow,
    database: Database,
    connection: Connection,
    tmp_path: Path,
    jobs: str,
) -> None:
    plant(connection, 3000)
    assert pgflow("backup", "a.dump", "--no-record").returncode == 0
    path = tmp_path / "a.dump"
    damaged = bytearray(path.read_bytes())
    damaged[-60_000:-20_000] = os.urandom(40_000)
    path.write_bytes(damaged)
    for beside in ("a.dump.json", "a.dump.sha256"):
        (tmp_path / beside).unlink()
    plant(connection, 2)
    before = digests(database)
    done = pgflow(
        *("restore", "a.dump", "--clean", "--confirm", database.name, "--jobs", jobs)
    )
    assert done.returncode == 1, done.stderr
    assert "what was there before is back" in done.stderr
    assert "Traceback" not in done.stderr
    assert digests(database) == before
    assert not is_fenced(pgflow, database)


@pytest.mark.usefixtures("dumped")
def test_living_workers_are_in_the_way(
    pgflow: RunsPgflow, database: Database, connection: Connection
) -> None:
    register(connection, "0" * 31 + "1", heard="0 seconds")
    clean = ("restore", "a.dump", "--clean", "--confirm", database.name)
    done = pgflow(*clean)
    assert done.returncode == 4
    assert "1 workers live" in done.stderr
    assert pgflow(*clean, "--force").returncode == 0


@pytest.mark.usefixtures("dumped")
def test_a_dry_run_changes_nothing_and_its_command_does_it(
    pgflow: RunsPgflow, database: Database
) -> None:
    before = digests(database)
    done = pgflow("restore", "a.dump", "--clean", "--dry-run")
    assert done.returncode == 0, done.stderr
    command = f"pgflow restore a.dump --clean --confirm {database.name}"
    assert done.stdout == f"Run      {command}\n"
    assert digests(database) == before
    assert not is_fenced(pgflow, database)
    assert pgflow(*command.split()[1:]).returncode == 0
    assert is_fenced(pgflow, database)


@pytest.mark.usefixtures("dumped")
@pytest.mark.parametrize("which", ["dump", "sums", "manifest"])
def test_what_does_not_match_is_refused(
    pgflow: RunsPgflow,
    empty: Database,
    tmp_path: Path,
    which: str,
) -> None:
    if which == "dump":
        with (tmp_path / "a.dump").open("ab") as file:
            file.write(b"x")
    elif which == "sums":
        (tmp_path / "a.dump.sha256").write_text(f"{'0' * 64}  a.dump\n")
    else:
        path = tmp_path / "a.dump.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": "0"}))
    done = pgflow("restore", "a.dump", "--into", empty.url)
    assert done.returncode == 4
    assert "is not what" in done.stderr


@pytest.mark.usefixtures("dumped")
def test_rows_that_the_manifest_does_not_know_are_told(
    pgflow: RunsPgflow, empty: Database, tmp_path: Path
) -> None:
    path = tmp_path / "a.dump.json"
    told = json.loads(path.read_text())
    told["tables"]["pending"] = 4
    path.write_text(json.dumps(told))
    done = pgflow("restore", "a.dump", "--into", empty.url)
    assert done.returncode == 5
    assert "pending: 4 rows dumped, 3 restored" in done.stderr
    assert is_fenced(pgflow, empty)


@pytest.mark.usefixtures("dumped")
def test_rows_that_living_workers_have_written_are_no_failure(
    pgflow: RunsPgflow, database: Database, connection: Connection, tmp_path: Path
) -> None:
    """As by one that reports between the end of the load and the count."""
    path = tmp_path / "a.dump.json"
    told = json.loads(path.read_text())
    told["tables"]["workers"] = 1
    path.write_text(json.dumps(told))
    register(connection, "0" * 31 + "1", heard="0 seconds")
    done = pgflow(
        *("restore", "a.dump", "--clean", "--force", "--confirm", database.name)
    )
    assert done.returncode == 0, done.stderr
    assert "workers: 1 rows dumped, 0 restored" in done.stderr
    assert "as the manifest says" not in done.stderr
    assert is_fenced(pgflow, database)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, 3),
        (b"", 4),
        (b"-- PostgreSQL database dump\ncreate table x (y int);\n", 5),
        (b"PGDMPnonsense", 1),
    ],
)
def test_what_is_no_dump_is_refused(
    pgflow: RunsPgflow, empty: Database, tmp_path: Path, content: Any, code: int
) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    done = pgflow("restore", "a", "--into", empty.url)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_plain_sql_takes_no_jobs(pgflow: RunsPgflow, empty: Database) -> None:
    assert pgflow("backup", "a.sql", "--format", "plain").returncode == 0
    done = pgflow("restore", "a.sql", "--into", empty.url, "--jobs", "2")
    assert done.returncode == 4


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("shell", ["posix", "powershell", "windows newlines", "gzip"])
def test_a_plain_dump_of_the_runbook_is_restored(
    pgflow: RunsPgflow,
    database: Database,
    empty: Database,
    real: Clients,
    tmp_path: Path,
    shell: str,
) -> None:
    """PowerShell's `>` writes UTF-16 with a byte order mark, and its own newlines."""
    text = dump_plain(real, database)
    before = digests(database)
    if shell == "powershell":
        text = text.decode().replace("\n", "\r\n").encode("utf-16")
    elif shell == "windows newlines":
        text = b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n")
    elif shell == "gzip":
        import gzip  # noqa: PLC0415

        text = gzip.compress(text)
    (tmp_path / "file.sql").write_bytes(text)
    done = pgflow("restore", "file.sql", "--into", empty.url)
    assert done.returncode == 0, done.stderr
    assert digests(empty) == before
    assert is_fenced(pgflow, empty)
    listed = pgflow("restore", "file.sql", "--list")
    assert "TABLE DATA pgflow pending" in listed.stdout


@pytest.mark.usefixtures("filled")
def test_a_plain_dump_restored_by_psql_alone_is_fenced(
    pgflow: RunsPgflow, database: Database, empty: Database, real: Clients
) -> None:
    text = dump_plain(real, database)
    psql = [real.program("psql"), "-q", "-X", empty.url]
    subprocess.run(psql, input=text, check=True, stdout=subprocess.DEVNULL)
    assert digests(empty) == digests(database)
    variables = {"DATABASE_URL": empty.url}
    assert pgflow("work", "--simulate", "--drain", env=variables).returncode == 78
    assert is_fenced(pgflow, empty)


@pytest.mark.usefixtures("filled")
def test_a_plain_dump_restored_by_psql_where_it_was_taken_is_fenced(
    pgflow: RunsPgflow, database: Database, connection: Connection, real: Clients
) -> None:
    """The database is the same, its tables are not."""
    text = dump_plain(real, database)
    connection.execute("drop schema pgflow cascade")
    psql = [real.program("psql"), "-q", "-X", database.url]
    subprocess.run(psql, input=text, check=True, stdout=subprocess.DEVNULL)
    assert is_fenced(pgflow, database)


def test_a_missing_role_is_named_with_the_ways_out(
    pgflow: RunsPgflow,
    database: Database,
    connection: Connection,
    empty: Database,
) -> None:
    role = f"gone_{os.getpid()}"
    connection.execute(
        f"create role {role}; alter table pgflow.pending owner to {role}"
    )
    assert pgflow("backup", "a.dump").returncode == 0
    connection.execute(
        f"alter table pgflow.pending owner to current_user; drop role {role}"
    )
    done = pgflow("restore", "a.dump", "--into", empty.url)
    assert done.returncode == 1
    assert f'role "{role}" does not exist' in done.stderr
    assert "--no-owner" in done.stderr
    again = pgflow("restore", "a.dump", "--into", empty.url, "--no-owner")
    assert again.returncode == 0, again.stderr


def test_a_dump_of_an_older_schema_is_migrated_and_fenced(
    pgflow: RunsPgflow, server: Server, empty: Database
) -> None:
    from pgflow_cli.maintenance import migrations  # noqa: PLC0415
    from pgflow_cli.repository import Database as Settings  # noqa: PLC0415
    from pgflow_cli.repository import Repository  # noqa: PLC0415

    with another(server, f"pgflow_old_{os.getpid()}") as older:
        repository = Repository.of(Settings(older.url))
        migrations.migrate(repository, target=3)
        repository.close()
        assert pgflow("backup", "a", env={"DATABASE_URL": older.url}).returncode == 0
    done = pgflow("restore", "a", "--into", empty.url)
    assert done.returncode == 0, done.stderr
    assert "applied 0004_fence" in done.stderr
    assert is_fenced(pgflow, empty)


def test_a_dump_of_before_the_first_release_is_refused(
    pgflow: RunsPgflow, filled: list[str], connection: Connection, real: Clients,
    database: Database, tmp_path: Path,
) -> None:  # fmt: skip
    """Its version shows once it is loaded; what was there before comes back."""
    edit = "update pgflow.migrations set checksum = %s where version = 1"
    rows = connection.execute(
        "select checksum from pgflow.migrations where version = 1"
    )
    [recorded] = rows.fetchone() or ()
    connection.execute(edit, ("x",))
    (tmp_path / "a.sql").write_bytes(dump_plain(real, database))
    connection.execute(edit, (recorded,))
    before = digests(database)
    done = pgflow("restore", "a.sql", "--clean", "--confirm", database.name)
    assert done.returncode == 78, done.stderr
    assert "the schema was made before pgflow 0.1 (its 0001_jobs is" in done.stderr
    assert "what was there before is back" in done.stderr
    assert digests(database) == before
    assert pgflow("migrate", "--check").returncode == 0


def test_a_dump_without_our_schema_is_restored_and_not_fenced(
    pgflow: RunsPgflow, server: Server, empty: Database, real: Clients, tmp_path: Path
) -> None:
    with another(server, f"pgflow_none_{os.getpid()}") as other:
        other.connect().execute("create table t (x integer)")
        (tmp_path / "a.sql").write_bytes(dump_plain(real, other))
    done = pgflow("restore", "a.sql", "--into", empty.url)
    assert done.returncode == 0, done.stderr
    assert "nothing to fence" in done.stderr


@pytest.mark.usefixtures("dumped")
def test_programs_that_are_too_old_restore_nothing(
    pgflow: RunsPgflow, empty: Database, tmp_path: Path
) -> None:
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n")
    old.chmod(0o755)
    command = ["restore", "a.dump", "--into", empty.url, "--pg-dump", str(old)]
    done = pgflow(*command)
    assert done.returncode == 4
    assert "pg_restore 9.6.1 is older than PostgreSQL" in done.stderr
    assert "nothing was restored" in done.stderr


@pytest.mark.usefixtures("dumped")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_restore_that_failed_in_a_database_of_its_own_leaves_a_mark(
    pgflow: RunsPgflow, server: Server, database: Database,
    real: Clients, tmp_path: Path, jobs: str,
) -> None:  # fmt: skip
    """There is nothing to bring back: what came stays in part, and is used by none."""
    broken = slow_pg_dump(tmp_path / "broken", real)
    for name in ("pg_restore", "psql"):
        program = broken.with_name(name)
        program.unlink()
        program.write_text(f'#!/bin/sh\n{real.program(name)} "$@"\nexit 3\n')
        program.chmod(0o755)
    name = f"{database.name}_made"
    url = database.url.replace(database.name, name, 1)
    into = ("--into", url, "--jobs", jobs)
    try:
        failed = pgflow(
            "restore", "a.dump", *into, "--create", "--pg-dump", str(broken)
        )
        assert failed.returncode == 1, failed.stderr
        refused = pgflow("migrate", env={"DATABASE_URL": url})
        assert refused.returncode == 78
        assert "a restore was killed or has failed" in refused.stderr
        again = pgflow("restore", "a.dump", *into, "--clean", "--confirm", name)
        assert again.returncode == 0, again.stderr
        assert pgflow("migrate", env={"DATABASE_URL": url}).returncode == 0
    finally:
        server.drop(Database(url, name))


@pytest.mark.usefixtures("dumped")
def test_a_restore_that_failed_over_another_leaves_no_mark_of_its_own(
    pgflow: RunsPgflow, database: Database, connection: Connection,
    real: Clients, tmp_path: Path,
) -> None:  # fmt: skip
    """But one that was there before stays: what came back is a part."""
    broken = slow_pg_dump(tmp_path / "broken", real)
    program = broken.with_name("pg_restore")
    program.unlink()
    program.write_text(
        f'#!/bin/sh\n{real.program("pg_restore")} --section=pre-data "$@"\nexit 3\n'
    )
    program.chmod(0o755)
    over = ("--clean", "--confirm", database.name, "--jobs", "2")
    for code in (0, 78):
        failed = pgflow("restore", "a.dump", *over, "--pg-dump", str(broken))
        assert failed.returncode == 1, failed.stderr
        assert "what was there before is back" in failed.stderr
        assert pgflow("migrate").returncode == code
        connection.execute("create schema if not exists pgflow_restoring")
