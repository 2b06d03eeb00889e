"""A local server is private, lives as long as its owner, and leaves nothing behind."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

import pgflow_cli
from pgflow_cli.errors import ConfigurationError
from pgflow_cli.local import (
    AlreadyRunning,
    Folder,
    LocalServer,
    running_url,
    url_of_dev,
)
from pgflow_cli.local.binaries import Account, runs_as, server_account
from tests.acceptance.conftest import is_gone
from tests.support.tools import missing, needs_postgresql

WaitUntil = Callable[..., Any]

TREE = str(Path(pgflow_cli.__file__).parents[1])
IS_ROOT = os.geteuid() == 0

# Starts a server as its own process and holds it until its standard input ends.
OWNER = """
import json, sys
from pathlib import Path
from pgflow_cli.local import LocalServer
data, ephemeral, pg_bin = json.loads(sys.argv[1])
server = LocalServer(
    Path(data) if data else None,
    ephemeral=ephemeral,
    pg_bin=Path(pg_bin) if pg_bin else None,
    say=lambda step: print(json.dumps({"step": step}), flush=True),
)
with server:
    told = {"url": server.url, "path": str(server.folder.path), "notes": server.notes}
    print(json.dumps(told), flush=True)
    sys.stdin.read()
"""


@dataclass
class Owner:
    """A process that owns a server."""

    process: subprocess.Popen[str]

    def told(self, key: str) -> Any:
        """Return the next thing of that name that it tells."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if key in (message := json.loads(line)):
                return message
        raise AssertionError(f"it ended without telling {key}")

    def end(self) -> int:
        self.process.communicate()
        return self.process.returncode


@pytest.fixture
def start_owner() -> Iterator[Callable[..., Owner]]:
    started: list[Owner] = []

    def start(
        data: Path | None = None,
        *,
        ephemeral: bool = False,
        pg_bin: Path | None = None,
        python: str = sys.executable,
        account: Account | None = None,
        env: dict[str, str] | None = None,
    ) -> Owner:
        arguments = [str(data) if data else None, ephemeral, str(pg_bin or "")]
        process = subprocess.Popen(
            [python, "-c", OWNER, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": open_tree() if account else TREE,
                **(env or {}),
            },
            cwd="/",
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        started.append(Owner(process))
        return started[-1]

    yield start
    for owner in started:
        owner.process.kill()
        owner.process.communicate()


@pytest.fixture
def data_dir(tmp_path: Path, wait_until: WaitUntil) -> Iterator[Path]:
    """The folder of a lasting server; root's stands elsewhere and is removed too."""
    data = tmp_path / ".pgflow"
    yield data
    for ephemeral in (False, True):
        folder = Folder.of(data, server_account(), ephemeral=ephemeral)
        wait_until(lambda path=folder.path: none_left(path), "all has ended")
        shutil.rmtree(folder.path, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    data = tmp_path_factory.mktemp("lasting") / ".pgflow"
    yield data
    shutil.rmtree(Folder.of(data, server_account()).path, ignore_errors=True)


@pytest.fixture
def lasting_dir(shared_dir: Path, wait_until: WaitUntil) -> Iterator[Path]:
    """The folder of a lasting server that trials share: the first makes the data."""
    yield shared_dir
    path = Folder.of(shared_dir, server_account()).path
    wait_until(lambda: none_left(path), "all has ended")


def processes_of(path: Path | str) -> list[psutil.Process]:
    """Return the processes whose command line names a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(path) in line and process.pid != os.getpid() and "OWNER" not in line:
            found.append(process)
    return found


def none_left(path: Path | str) -> bool:
    """Whether no process names a folder; those that do are given a moment to end."""
    left = processes_of(path)
    psutil.wait_procs(left, timeout=1)  # a look at every process takes long
    return not left


def ask(url: str, question: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
        return row[0] if row else None


@pytest.mark.parametrize("kind", ["system", "wheel"])
def test_an_ephemeral_server_is_private_and_leaves_nothing(kind: str) -> None:
    accounts = Path("/etc/passwd").read_bytes()
    with LocalServer(pg_bin=needs_postgresql(kind)) as server:
        path, url = server.folder.path, server.url
        assert ask(url, "show fsync") == "off"
        assert ask(url, "show listen_addresses") == ""
        assert ask(url, "show server_encoding") == "UTF8"
        assert ask(url, "select 'ß' < 'z'") is False  # by code point: C.UTF-8
        assert ask(url, "select upper('ß') || upper('é')")[-1] == "É"
        assert (path / "password").stat().st_mode & 0o777 == 0o600
        assert (path / "socket").stat().st_mode & 0o777 == 0o700
        assert (path / "postgres.log").stat().st_size > 0
        without_password = url.replace(url.split(":")[2].split("@")[0], "wrong")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(without_password)
    assert not path.exists()
    assert processes_of(path) == []
    assert Path("/etc/passwd").read_bytes() == accounts


def test_a_killed_owner_leaves_nothing(
    start_owner: Callable[..., Owner], wait_until: WaitUntil
) -> None:
    owner = start_owner()
    path = Path(owner.told("path")["path"])
    assert processes_of(path)

    owner.process.kill()

    wait_until(lambda: not path.exists(), "the folder is removed")
    wait_until(lambda: none_left(path), "the server and the guard end")


def test_an_owner_killed_while_it_makes_the_data_leaves_nothing(
    start_owner: Callable[..., Owner], wait_until: WaitUntil, tmp_path: Path
) -> None:
    owner = start_owner(tmp_path / "x", ephemeral=True)
    path = Folder.of(tmp_path / "x", server_account(), ephemeral=True).path
    wait_until((path / "data.new" / "base").exists, "initdb is at work")

    owner.process.kill()

    wait_until(lambda: not path.exists(), "the folder is removed")
    wait_until(lambda: none_left(path), "initdb and the guard end")


def test_what_an_owner_and_its_guard_left_is_removed_by_the_next_run(
    start_owner: Callable[..., Owner], wait_until: WaitUntil
) -> None:
    owner = start_owner()
    path = Path(owner.told("path")["path"])
    children = psutil.Process(owner.process.pid).children()
    [guard] = [child for child in children if "guard" in " ".join(child.cmdline())]
    guard.kill()
    owner.process.kill()
    owner.process.wait()
    wait_until(lambda: is_gone(guard), "the guard has ended")
    assert processes_of(path)

    with LocalServer():
        # Another test's server may be the next run, and still be at it.
        wait_until(lambda: not path.exists(), "the folder is removed")
        wait_until(lambda: none_left(path), "the old server has ended")


def test_a_lasting_server_keeps_its_data_and_is_durable(lasting_dir: Path) -> None:
    with LocalServer(lasting_dir) as server:
        assert ask(server.url, "show fsync") == "on"
        with psycopg.connect(server.url) as connection:
            connection.execute("create table kept as select 42 as answer")
        assert (server.folder.path / ".gitignore").read_text() == "*\n"
        first = server.url
    assert running_url(lasting_dir) is None
    with LocalServer(lasting_dir) as server:
        assert ask(server.url, "select answer from kept") == 42
        assert server.url == first


def test_a_second_owner_is_refused_and_finds_the_first_ones_url(
    lasting_dir: Path,
) -> None:
    with LocalServer(lasting_dir) as server:
        with pytest.raises(AlreadyRunning):
            LocalServer(lasting_dir).start()
        assert running_url(lasting_dir) == server.url
        assert ask(server.url, "select 1") == 1


def test_a_lasting_server_ends_with_its_killed_owner_and_starts_again(
    lasting_dir: Path, start_owner: Callable[..., Owner], wait_until: WaitUntil
) -> None:
    owner = start_owner(lasting_dir)
    path = owner.told("path")["path"]
    owner.process.kill()
    wait_until(lambda: none_left(path), "the server and the guard end")
    with LocalServer(lasting_dir) as server:
        log = server.folder.log.read_text()
    assert "not properly shut down" not in log


def test_a_pid_file_of_a_dead_server_does_not_stop_the_next(lasting_dir: Path) -> None:
    with LocalServer(lasting_dir) as server:
        pid_file = server.folder.data / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    # The number is a living process's now: only the time it started tells.
    lines[0] = str(os.getppid())
    lines[2] = str(int(lines[2]) - 86_400 * 365)
    pid_file.write_text("\n".join(lines) + "\n")
    assert running_url(lasting_dir) is None
    with LocalServer(lasting_dir) as server:
        assert ask(server.url, "select 1") == 1


def test_a_long_path_moves_the_socket(
    open_folder: Path, start_owner: Callable[..., Owner]
) -> None:
    long = open_folder / ("a-long-name-" * 10)
    long.mkdir()
    account = None
    if IS_ROOT:  # root's servers never stand on a long path
        account = server_account()
        assert account is not None
        os.chown(long, account.uid, account.gid)
    owner = start_owner(
        long / ".pgflow", account=account, python=python_for(account), env={"HOME": "/"}
    )
    told = owner.told("path")
    assert ask(told["url"], "select 1") == 1
    sockets = ask(told["url"], "show unix_socket_directories")
    assert not sockets.startswith(str(long))
    assert any(sockets in note for note in told["notes"])
    assert owner.end() == 0
    assert not Path(sockets).exists()


def test_data_of_another_version_are_served_by_their_own_programs_or_refused(
    data_dir: Path,
) -> None:
    system, wheel = needs_postgresql("system"), needs_postgresql("wheel")
    with LocalServer(data_dir, pg_bin=wheel) as server:
        folder = server.folder
    made = folder.version()
    with pytest.raises(ConfigurationError, match=f"belong to PostgreSQL {made}") as e:
        LocalServer(data_dir, pg_bin=system).start()
    assert "dev reset" in " ".join(e.value.hints)
    assert "pg_dump" in " ".join(e.value.hints)
    with LocalServer(data_dir) as server:  # the others are found by themselves
        assert ask(server.url, "show server_version").startswith(f"{made}.")


def test_the_dev_url_is_refused_outside_development(data_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="PGFLOW_ENV says prod"):
        url_of_dev(data_dir, environment="prod")
    assert not data_dir.exists()


def test_a_server_started_by_the_dev_url_ends_with_its_process(
    lasting_dir: Path,
) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from pgflow_cli.local import url_of_dev;"
        "print(url_of_dev(Path(sys.argv[1]), environment='dev'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(lasting_dir)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": TREE},
    )
    assert done.stdout.startswith("postgresql://pgflow:")
    assert running_url(lasting_dir) is None
    with LocalServer(lasting_dir) as server:
        assert url_of_dev(lasting_dir) == server.url == done.stdout.strip()


def test_a_folder_with_other_files_is_never_taken(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="not pgflow's"):
        folder.make()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(not IS_ROOT, reason="only root's server runs as somebody else")
def test_for_root_programs_behind_a_closed_folder_are_copied(tmp_path: Path) -> None:
    package = needs_postgresql("wheel").parents[1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in (package, package.with_name(f"{package.name}.libs")):
        (closed / part.name).symlink_to(part)
    with LocalServer(pg_bin=closed / package.name / "pginstall" / "bin") as server:
        assert ask(server.url, "select 1") == 1
        account = server_account()
        assert account is not None
        assert any("were copied to" in note for note in server.notes)
        assert any(f"runs as {account.name}" in note for note in server.notes)
        pid = server.folder.status().pid
        assert pid is not None
        assert psutil.Process(pid).uids().real == account.uid
    assert closed.stat().st_mode & 0o777 == 0o700
    assert not server.folder.path.exists()


def test_an_ordinary_user_has_a_server_of_its_own(
    start_owner: Callable[..., Owner], open_folder: Path
) -> None:
    account = None
    if IS_ROOT:
        import pwd  # noqa: PLC0415

        entry = pwd.getpwnam("nobody")
        account = Account("nobody", entry.pw_uid, entry.pw_gid)
        os.chown(open_folder, account.uid, account.gid)
    python = python_for(account)
    owner = start_owner(open_folder / ".pgflow", account=account, python=python)
    told = owner.told("path")
    assert told["path"] == str(open_folder / ".pgflow")
    assert told["notes"] == []
    assert (open_folder / ".pgflow").stat().st_mode & 0o777 == 0o700
    assert ask(told["url"], "show fsync") == "on"
    assert owner.end() == 0
    assert processes_of(open_folder) == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account reaches: each start of pytest closes its own."""
    folder = Path(tempfile.mkdtemp(prefix="pgflow-test-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def python_for(account: Account | None) -> str:
    """Return a Python that this account can run, or skip the test."""
    if account is None:
        return sys.executable
    check = "import sys; sys.path.append(sys.argv[1]); import pgflow_cli.local"
    pythons = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")
    there = [python for python in pythons if Path(python).exists()]
    tree = open_tree()
    found = next((p for p in there if runs_as(account, p, "-c", check, tree)), None)
    if found is None:
        missing(f"no Python that {account.name} can run")
    return found


@cache
def open_tree() -> str:
    """Return a copy of the package that every account can read: a tree below a folder
    of root's own is closed to all others.
    """
    folder = Path(tempfile.mkdtemp(prefix="pgflow-test-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(f"{TREE}/pgflow_cli", folder / "pgflow_cli", ignore=ignored)
    return str(folder)
