"""`pgflow backup`: what is written, what is refused, and that nothing is half there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import psutil
import psycopg
import pytest

from pgflow_cli.backups import files
from pgflow_cli.local import clients
from pgflow_cli.local.clients import Clients
from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository
from tests.conftest import RunsPgflow
from tests.support.backup_tools import another, digests, found_clients, slow_pg_dump
from tests.support.executable import Fork
from tests.support.jobs import audit, plant, successes
from tests.support.servers import Database, Server
from tests.support.tools import needs_postgresql

Connection = psycopg.Connection[Any]
Wait = Callable[..., Any]
CANARY = "pa:ss\\wo'rd%21canary"
CANARY_IN_URL = "pa%3Ass%5Cwo%27rd%2521canary"


@pytest.fixture(autouse=True)
def _every_trial_ends_with_the_audit(connection: Connection) -> Any:
    yield
    assert audit(connection) == (0, 0)


@pytest.fixture
def real(server: Server) -> Clients:
    return found_clients(server)


@pytest.fixture
def start(database: Database, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Begin a run without waiting for it; none is left when the test ends."""
    begun: list[Fork] = []

    def run(*arguments: str, url: str = database.url, **more: Any) -> Fork:
        environment = {**os.environ, "DATABASE_URL": url}
        begun.append(Fork(*arguments, environment=environment, folder=tmp_path, **more))
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.wait()


@pytest.fixture
def beside(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Have a dump restored beside its source: quicker than a server of its own."""
    return ("--verify", "restore", "--pg-bin", str(tmp_path_factory.mktemp("empty")))


def dumps(folder: Path) -> list[Path]:
    """Return the backups of a folder that stand under their final names."""
    return sorted(
        p
        for p in folder.glob("*")
        if not p.name.endswith((".json", ".sha256", ".partial"))
    )


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{path}.json").read_text())
    return found


def test_a_backup_gets_a_name_a_manifest_and_a_checksum(
    pgflow: RunsPgflow, connection: Connection, tmp_path: Path
) -> None:
    plant(connection, 5)
    done = pgflow("backup", "-o", "json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    path = tmp_path / shown["path"]
    name = connection.info.dbname
    assert re.fullmatch(rf"{name}-\d{{8}}T\d{{6}}Z\.dump", path.name)
    for file in (path, Path(f"{path}.json"), Path(f"{path}.sha256")):
        assert file.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    check = ["sha256sum", "-c", f"{path.name}.sha256"]
    assert subprocess.run(check, cwd=path.parent, check=False).returncode == 0
    told = manifest(path)
    assert told["database"] == name
    assert sum(rows for t, rows in told["tables"].items() if t.startswith("jobs_")) == 5
    assert told["bytes"] == path.stat().st_size
    assert "holds back vacuum" in done.stderr


def test_a_backup_is_remembered_once_and_audited(
    pgflow: RunsPgflow, connection: Connection
) -> None:
    assert pgflow("backup", "a.dump", "--note", "before 2.0").returncode == 0
    assert pgflow("backup", "b.dump", "--no-record").returncode == 0
    remembered = connection.execute(
        "select file, format, verified from pgflow.backups"
    ).fetchall()
    assert remembered == [("a.dump", "custom", "list")]
    rows = connection.execute(
        "select action, note, finished_at is not null from pgflow.operator_actions"
    ).fetchall()
    assert rows == [("backup", "before 2.0", True)]


@pytest.mark.parametrize(
    "options",
    [
        ["a.sql", "--format", "plain"],
        ["a.sql.gz", "--format", "plain", "--compress", "6"],
        ["a.dir", "--format", "directory", "--jobs", "2"],
        ["a.dump", "--only-pgflow", "--compress", "0"],
        ["a.dump", "--schema-only"],
    ],
    ids=" ".join,
)
def test_each_format_is_proven_by_restoring_it(
    pgflow: RunsPgflow, connection: Connection, options: list[str], tmp_path: Path,
    beside: tuple[str, ...],
) -> None:  # fmt: skip
    plant(connection, 20, payload='{"text": "\\u00fc \\\\ \\" \\t"}')
    done = pgflow("backup", *options, *beside)
    assert done.returncode == 0, done.stderr
    assert "all equal" in done.stderr
    assert manifest(tmp_path / options[0])["verified"] == "restore"
    sums = (tmp_path / f"{options[0]}.sha256").read_text().splitlines()
    assert len(sums) == (1 if "directory" not in options else len(sums)) > 0
    checked = subprocess.run(
        ["sha256sum", "-c", f"{options[0]}.sha256"], cwd=tmp_path, check=False
    )
    assert checked.returncode == 0


def test_without_a_server_of_its_own_it_is_restored_beside_the_source(
    pgflow: RunsPgflow, connection: Connection, server: Server, tmp_path: Path
) -> None:
    plant(connection, 3)
    (tmp_path / "empty").mkdir()
    done = pgflow(
        "backup", "a.dump", "--verify", "restore", "--pg-bin", str(tmp_path / "empty")
    )
    assert done.returncode == 0, done.stderr
    assert "scratch database of" in done.stderr
    with psycopg.connect(server.url) as found:
        left = found.execute(
            "select datname from pg_database where starts_with(datname, 'pgflow_ver')"
        ).fetchall()
    assert left == []


def test_a_dump_goes_to_stdout(
    start: Callable[..., Any], connection: Connection, tmp_path: Path
) -> None:
    plant(connection)
    reader, writer = os.pipe()
    process = start("backup", "-", stdout=writer)
    os.close(writer)
    with open(reader, "rb") as piped:
        dumped = piped.read()
    assert process.wait() == 0
    assert dumped.startswith(b"PGDMP")
    assert list(tmp_path.iterdir()) == []
    with TemporaryFile() as stdin:
        stdin.write(dumped)
        stdin.seek(0)
        listed, _ = start("restore", "-", "--list", stdin=stdin).communicate()
    assert "TABLE DATA pgflow jobs" in listed


def test_archived_jobs_are_left_out(
    pgflow: RunsPgflow, connection: Connection, tmp_path: Path,
    beside: tuple[str, ...],
) -> None:  # fmt: skip
    plant(connection, 4)
    for statement in (
        "delete from pgflow.pending",
        "with moved as (delete from pgflow.jobs returning *)"
        " insert into pgflow.jobs_archive select * from moved",
        successes("select id as job_id from pgflow.jobs_archive", archive=True),
    ):
        connection.execute(statement)
    done = pgflow("backup", "all.dump", "--verify", "restore")
    assert done.returncode == 0, done.stderr
    assert "all equal" in done.stderr
    done = pgflow("backup", "few.dump", "--exclude-archive", *beside)
    assert done.returncode == 0, done.stderr

    def archived(told: dict[str, Any]) -> int:
        tables = told["tables"].items()
        return sum(n for name, n in tables if name.startswith("jobs_archive"))

    assert archived(manifest(tmp_path / "all.dump")) == 4
    told = manifest(tmp_path / "few.dump")
    assert archived(told) == 0
    assert any(name.startswith("pgflow.jobs_archive") for name in told["excluded"])
    assert audit(connection) == (0, 0)


@pytest.mark.parametrize(
    "options",
    [
        ["--jobs", "2"],
        ["--schema-only", "--data-only"],
        ["--data-only", "--verify", "restore"],
        ["-", "--format", "directory"],
        ["-", "--keep", "2"],
        ["-", "--verify", "restore"],
        ["--keep", "0"],
        ["--compress", "10"],
    ],
    ids=" ".join,
)
def test_what_contradicts_itself_is_refused(
    pgflow: RunsPgflow, options: list[str], tmp_path: Path
) -> None:
    assert pgflow("backup", *options).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_an_older_pg_dump_is_refused_before_a_byte_is_written(
    pgflow: RunsPgflow, server: Server, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.9'\n")
    (old / "pg_dump").chmod(0o755)
    done = pgflow("backup", "backups/a.dump", "--pg-dump", str(old / "pg_dump"))
    assert done.returncode == 4
    assert "pg_dump 14.9" in done.stderr
    assert f"PostgreSQL {server.version}" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_an_installed_pg_dump_that_is_older_is_refused(
    pgflow: RunsPgflow, server: Server, tmp_path: Path
) -> None:
    folder = needs_postgresql("system")
    if int(folder.parts[-2]) >= server.version:
        pytest.skip("the installed PostgreSQL is as new as the server")
    assert pgflow("backup", "a.dump", "--pg-dump", str(folder)).returncode == 4
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_no_pg_dump_is_a_bad_setting(pgflow: RunsPgflow) -> None:
    assert pgflow("backup", "--pg-dump", "/bin/true").returncode == 78


def test_one_backup_at_a_time(pgflow: RunsPgflow, database: Database) -> None:
    other = database.connect(autocommit=False)
    other.execute("select from pgflow.backup_lock for update")
    done = pgflow("backup", "a.dump")
    assert done.returncode == 75
    assert "another backup" in done.stderr
    other.rollback()
    assert pgflow("backup", "a.dump").returncode == 0


@pytest.mark.direct
@pytest.mark.parametrize("table", ["pgflow.jobs", "pgflow.audit_of_others"])
def test_a_lock_that_another_session_holds_ends_it(
    pgflow: RunsPgflow, database: Database, tmp_path: Path, table: str
) -> None:
    """The lock is held until the end of the test; pg_dump alone reads the second."""
    database.connect().execute("create table pgflow.audit_of_others ()")
    with database.connect(autocommit=False) as other:
        other.execute(f"lock table {table} in access exclusive mode")
        done = pgflow("backup", "a.dump", "--timeout", "300ms")
        pid = other.info.backend_pid
    assert done.returncode == 69, done.stderr
    assert "has waited for a lock that another session holds" in done.stderr
    assert f"pid {pid} " in done.stderr
    assert not (tmp_path / "a.dump").exists()
    assert pgflow("backup", "a.dump").returncode == 0


def test_keep_removes_older_ones_of_the_same_database_only(
    pgflow: RunsPgflow, tmp_path: Path
) -> None:
    for name in ("one.dump", "two.dump", "three.dump"):
        assert pgflow("backup", f"b/{name}").returncode == 0
    foreign = tmp_path / "b" / "foreign.dump"
    foreign.write_text("theirs")
    alien = {**manifest(tmp_path / "b" / "one.dump"), "database": "theirs"}
    Path(f"{foreign}.json").write_text(json.dumps(alien))
    (tmp_path / "b" / "notes.txt").write_text("mine")
    (tmp_path / "b" / "broken.json").write_text("{")
    done = pgflow("backup", "b/four.dump", "--keep", "2")
    assert done.returncode == 0, done.stderr
    assert "removed b/one.dump" in done.stderr
    names = {p.name for p in (tmp_path / "b").iterdir()}
    kept = {f"{n}.dump{e}" for n in ("three", "four") for e in ("", ".json", ".sha256")}
    theirs = {"foreign.dump", "foreign.dump.json", "notes.txt", "broken.json"}
    assert names == kept | theirs


def test_a_backup_that_fails_removes_none(
    pgflow: RunsPgflow, real: Clients, tmp_path: Path
) -> None:
    assert pgflow("backup", "b/one.dump").returncode == 0
    before = (tmp_path / "b" / "one.dump").read_bytes()
    broken = slow_pg_dump(tmp_path / "broken", real, after="code=1")
    for name in ("one", "two"):
        path = f"b/{name}.dump"
        done = pgflow("backup", path, "--keep", "1", "--pg-dump", str(broken))
        assert done.returncode == 1
    assert dumps(tmp_path / "b") == [tmp_path / "b" / "one.dump"]
    assert (tmp_path / "b" / "one.dump").read_bytes() == before


def test_a_dump_that_does_not_restore_gets_no_name(
    pgflow: RunsPgflow, real: Clients, connection: Connection, tmp_path: Path,
    beside: tuple[str, ...],
) -> None:  # fmt: skip
    plant(connection, 2000)
    cut = slow_pg_dump(tmp_path / "cut", real, after='truncate -s -2000 "$OUT"')
    done = pgflow("backup", "a.dump", *beside, "--pg-dump", str(cut))
    assert done.returncode != 0
    plain = pgflow("backup", "a.sql", "--format", "plain", "--pg-dump", str(cut))
    assert plain.returncode == 5
    assert "breaks off" in plain.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["cut"]


def test_a_table_that_lost_a_row_is_named(
    pgflow: RunsPgflow, real: Clients, connection: Connection, tmp_path: Path,
    beside: tuple[str, ...],
) -> None:  # fmt: skip
    plant(connection, 10)
    lossy = slow_pg_dump(
        tmp_path / "lossy",
        real,
        after="""sed -i '0,/\\tnoop\\t/{/\\tnoop\\t/d}' "$OUT" """,
    )
    done = pgflow(
        *("backup", "a.sql", "--format", "plain", *beside),
        *("--pg-dump", str(lossy)),
    )
    assert done.returncode == 5
    assert "10 rows dumped, 9 rows found" in done.stderr


def plant_much(connection: Connection) -> None:
    """Plant a job of 125 kB."""
    connection.execute(
        "select pgflow.enqueue('noop', jsonb_build_object('t', string_agg(md5(n::text),"
        " ''))) from generate_series(1, 4000) as n"
    )


# It may write no larger files.
FILES_OF_64_KIB = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))
from pgflow_cli.__main__ import main
main()
"""


def test_a_file_that_may_not_grow_leaves_nothing(
    start: Callable[..., Any], connection: Connection, tmp_path: Path
) -> None:
    plant_much(connection)
    done = start("backup", "b/a.dump", "--compress", "0", code=FILES_OF_64_KIB)
    _, complaint = done.communicate()
    assert done.returncode == 74, complaint
    assert list((tmp_path / "b").iterdir()) == []


def test_a_dump_that_stdout_takes_in_part_only_is_exit_74(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    plant_much(connection)
    with open(tmp_path / "x.dump", "wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", FILES_OF_64_KIB, "backup", "-", "--compress", "0"],
            env={**os.environ, "DATABASE_URL": database.url, "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    complaint = done.stderr
    assert done.returncode == 74, complaint
    assert "cannot write to stdout: File too large" in complaint
    kept = connection.execute("select count(*) from pgflow.backups").fetchone()
    assert kept == (0,)


def test_a_full_disk_leaves_the_backup_before_it(
    pgflow: RunsPgflow, connection: Connection, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small tmpfs")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        assert pgflow("backup", "small/a.dump").returncode == 0
        before = (small / "a.dump").read_bytes()
        for _ in range(40):
            connection.execute(
                "select pgflow.enqueue('noop', jsonb_build_object('t', string_agg("
                "md5(random()::text), ''))) from generate_series(1, 4000)"
            )
        done = pgflow("backup", "small/a.dump", "--compress", "0")
        assert done.returncode == 74, done.stderr
        assert (small / "a.dump").read_bytes() == before
        assert len(list(small.iterdir())) == 3
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_backup_follows_a_link_and_refuses_a_named_pipe(
    pgflow: RunsPgflow, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "a.dump").symlink_to(elsewhere / "real.dump")
    os.mkfifo(tmp_path / "pipe")
    refused = pgflow("backup", "pipe")
    assert refused.returncode == 4, refused.stderr
    assert "pipe is no file" in refused.stderr
    done = pgflow("backup", "a.dump")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.dump").is_symlink()
    assert (tmp_path / "pipe").is_fifo()
    assert dumps(elsewhere) == [elsewhere / "real.dump"]
    assert manifest(elsewhere / "real.dump")["verified"] == "list"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dump", "elsewhere", "pipe"]


def test_a_folder_that_cannot_be_made_is_an_output_error(
    pgflow: RunsPgflow, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert pgflow("backup", "file/a.dump").returncode == 74


def test_a_directory_is_not_written_over(pgflow: RunsPgflow, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert pgflow("backup", "there", "--format", "directory").returncode == 4
    assert pgflow("backup", "there").returncode == 4
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


def test_a_backup_that_takes_too_long_gives_up(
    pgflow: RunsPgflow, real: Clients, tmp_path: Path
) -> None:
    slow = slow_pg_dump(tmp_path / "slow", real, after="sleep 60")
    began = time.monotonic()
    done = pgflow("backup", "b/a.dump", "--max-runtime", "1s", "--pg-dump", str(slow))
    assert done.returncode == 75
    assert time.monotonic() - began < 30
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_ends_pg_dump_and_leaves_no_file(
    start: Callable[..., Any],
    real: Clients,
    wait_until: Wait,
    tmp_path: Path,
    number: int,
    code: int,
) -> None:
    slow = slow_pg_dump(tmp_path / "slow", real, after="sleep 60")
    process = start("backup", "b/a.dump", "--pg-dump", str(slow))
    wait_until(lambda: _dumped(tmp_path / "b"), "it dumps")
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(number)
    assert process.wait(60) == code
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert list((tmp_path / "b").iterdir()) == []


def _dumped(folder: Path) -> bool:
    return any(p.stat().st_size > 0 for p in folder.glob("*.partial"))


@pytest.mark.parametrize("point", ["before", "after"])
@pytest.mark.parametrize("stage", ["dumping", "verifying"])
def test_a_killed_backup_leaves_the_one_before_it(
    start: Callable[..., Any],
    pgflow: RunsPgflow,
    real: Clients,
    wait_until: Wait,
    tmp_path: Path,
    point: str,
    stage: str,
) -> None:
    """Killed while pg_dump has not begun, has ended, or its dump is being restored."""
    assert pgflow("backup", "b/a.dump").returncode == 0
    before = (tmp_path / "b" / "a.dump").read_bytes()
    slow = slow_pg_dump(tmp_path / "slow", real)
    mark = tmp_path / "mark"
    pause = f"touch {mark}; sleep 60"
    if stage == "verifying":
        (tmp_path / "slow" / "pg_restore").unlink()
        script = tmp_path / "slow" / "pg_restore"
        first, then = (pause, "") if point == "before" else ("", pause)
        script.write_text(
            f'#!/bin/sh\n{first}\n{real.folder}/pg_restore "$@"\n{then}\n'
        )
        script.chmod(0o755)
    else:
        slow.unlink()
        (tmp_path / "slow" / "psql").unlink()
        (tmp_path / "slow" / "pg_restore").unlink()
        (tmp_path / "slow").rmdir()
        slow = slow_pg_dump(tmp_path / "slow", real, **{point: pause})
    process = start("backup", "b/a.dump", "--pg-dump", str(slow))
    wait_until(mark.exists, "it is at that point")
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    # What the shell in place of the program had started is its own.
    for child in children:
        with suppress(psutil.NoSuchProcess):
            if child.name() == "sleep":
                child.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert (tmp_path / "b" / "a.dump").read_bytes() == before
    assert (tmp_path / "b" / "a.dump.partial").exists()
    assert dumps(tmp_path / "b") == [tmp_path / "b" / "a.dump"]
    done = pgflow("backup", "b/a.dump")
    assert done.returncode == 0, done.stderr
    assert {p.suffix for p in (tmp_path / "b").iterdir()} == {
        *(".dump", ".json", ".sha256")
    }


def test_a_backup_killed_at_any_moment_leaves_a_whole_one(
    start: Callable[..., Any],
    pgflow: RunsPgflow,
    connection: Connection,
    tmp_path: Path,
    beside: tuple[str, ...],
) -> None:
    plant(connection, 500)
    assert pgflow("backup", "b/a.dump").returncode == 0
    for step in range(6):
        process = start("backup", "b/a.dump")
        time.sleep(0.1 + step * 0.2)
        process.kill()
        process.wait()
        listed = pgflow("restore", "b/a.dump", "--list")
        assert listed.returncode == 0, (step, listed.stderr)
    done = pgflow("backup", "b/a.dump", *beside)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "b").iterdir())) == 3


def test_partials_of_generated_names_are_removed_others_stay(
    pgflow: RunsPgflow, connection: Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    name = connection.info.dbname
    stale = folder / f"{name}-20200101T000000Z.dump.partial"
    mine = folder / "thesis.partial"
    for path in (stale, mine):
        path.write_text("x")
    assert pgflow("backup").returncode == 0
    assert not stale.exists()
    assert mine.exists()


@pytest.mark.parametrize("directory", [False, True])
def test_a_signal_between_making_a_partial_and_locking_it_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: bool
) -> None:
    lock = files._lock

    def signaled(path: Path) -> int | None:
        signal.raise_signal(signal.SIGTERM)
        return lock(path)

    monkeypatch.setattr(files, "_lock", signaled)
    archive = files.Archive(tmp_path / "a", directory=directory)
    with pytest.raises(SystemExit), clients.ending_on_signals(), archive.written():
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("directory", [False, True])
def test_a_signal_while_a_partial_is_removed_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: bool
) -> None:
    remove = files._remove

    def signaled(path: Path) -> None:
        signal.raise_signal(signal.SIGTERM)
        remove(path)

    monkeypatch.setattr(files, "_remove", signaled)
    archive = files.Archive(tmp_path / "a", directory=directory)
    with (
        pytest.raises(SystemExit),
        clients.ending_on_signals(),
        archive.written(),
    ):
        raise ValueError("it fails")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("directory", [False, True])
def test_a_run_that_ends_leaves_the_partial_of_the_next_one(
    tmp_path: Path, directory: bool
) -> None:
    paths = [tmp_path / "a", tmp_path / "a"]
    first, second = (files.Archive(path, directory=directory) for path in paths)
    with ExitStack() as later:
        with first.written():
            first.partial.replace(first.path)
            if directory:
                first.path.rmdir()
            partial = later.enter_context(second.written())
        assert partial.exists()
    assert not partial.exists()


def test_the_password_is_in_no_command_line_no_output_and_no_file(
    start: Callable[..., Any],
    database: Database,
    real: Clients,
    wait_until: Wait,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    seen = tmp_path / "seen"
    spy = slow_pg_dump(
        tmp_path / "spy",
        real,
        before=f'stat -Lc %a "$PGPASSFILE" > {seen}.mode; cat "$PGPASSFILE" > {seen};'
        f'env > {seen}.env; echo "$@" > {seen}.argv; touch {seen}.done; sleep 1',
    )
    url = database.url.replace("postgres@", f"postgres:{CANARY_IN_URL}@", 1)
    process = start("backup", "a.dump", "--debug", "--pg-dump", str(spy), url=url)
    wait_until(Path(f"{seen}.done").exists, "pg_dump runs")
    family = [process.pid, *(p.pid for p in psutil.Process(process.pid).children(True))]
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in family]
    out, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert seen.read_text() == "*:*:*:*:pa\\:ss\\\\wo'rd%21canary\n"
    assert Path(f"{seen}.mode").read_text() == "600\n"
    everything = [
        *lines,
        out,
        complaint,
        *(Path(f"{seen}.{e}").read_text() for e in ("env", "argv")),
    ]
    everything += [p.read_text("latin-1") for p in tmp_path.glob("a.dump*")]
    assert not any("rd!canary" in text or "rd%21canary" in text for text in everything)
    assert list(temporary.iterdir()) == []


def test_a_schema_of_an_older_version_is_backed_up_too(
    server: Server, pgflow: RunsPgflow, tmp_path: Path, beside: tuple[str, ...]
) -> None:
    with another(server, "pgflow_older") as older:
        repository = Repository.of(DatabaseSettings(older.url))
        migrations.migrate(repository, target=3)
        repository.close()
        variables = {"DATABASE_URL": older.url}
        done = pgflow("backup", "a.dump", *beside, env=variables)
    assert done.returncode == 0, done.stderr
    told = manifest(tmp_path / "a.dump")
    assert (told["schema_version"], told["epoch"]) == (3, None)


def test_a_role_that_only_reads_takes_a_backup(
    server: Server, database: Database, connection: Connection, pgflow: RunsPgflow
) -> None:
    plant(connection, 3)
    role = f"reader_{os.getpid()}"
    connection.execute(f"create role {role} login in role pg_read_all_data")
    connection.execute(
        f"grant usage on schema pgflow to {role};"
        f"grant execute on function pgflow.system_identifier() to {role}"
    )
    try:
        url = database.url.replace("postgres@", f"{role}@", 1)
        done = pgflow("backup", "a.dump", env={"DATABASE_URL": url})
        assert done.returncode == 0, done.stderr
        assert "not recorded" in done.stderr
    finally:
        connection.execute(f"drop owned by {role}; drop role {role}")


def test_what_is_dumped_and_what_is_counted_are_of_one_instant(
    start: Callable[..., Any],
    real: Clients,
    connection: Connection,
    wait_until: Wait,
    tmp_path: Path,
    beside: tuple[str, ...],
) -> None:
    """Jobs that arrive while pg_dump has not begun to read are in neither."""
    plant(connection, 7)
    mark, gate = tmp_path / "mark", tmp_path / "gate"
    slow = slow_pg_dump(
        tmp_path / "slow",
        real,
        before=f"touch {mark}; until [ -e {gate} ]; do sleep 0.05; done",
    )
    process = start("backup", "a.dump", *beside, "--pg-dump", str(slow))
    wait_until(mark.exists, "the snapshot is taken")
    plant(connection, 5)
    gate.touch()
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert manifest(tmp_path / "a.dump")["tables"]["pending"] == 7


def test_the_digest_of_a_table_tells_its_rows(
    database: Database, connection: Connection
) -> None:
    plant(connection, 10)
    before = digests(database)
    assert digests(database) == before
    connection.execute(
        "update pgflow.pending set attempt_no = 1 where job_id ="
        " (select min(job_id::text)::uuid from pgflow.pending)"
    )
    after = digests(database)
    assert [name for name in after if after[name] != before[name]] == ["pending"]
    assert after["pending"].rows == before["pending"].rows
    connection.execute("update pgflow.pending set attempt_no = 0")
