"""Fixtures: a server, a migrated database of a test's own, the executable."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import psycopg
import pytest

from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository, sqlfiles
from tests.support import executable
from tests.support.private_servers import pooler
from tests.support.servers import THROUGH_A_POOLER, Database, Server, running_server

_numbers = itertools.count(1)

# A shell starts what runs in the background with SIGINT ignored, and so would be what
# the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where Python is told to write no bytecode, each start of the program would compile all
# of it again: a third of what a start takes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# No example fails because the machine is slow at that moment.
hypothesis.settings.register_profile("pgflow", deadline=None)
hypothesis.settings.load_profile("pgflow")


# Folders whose tests wait and take long, then all others, then those of short ones.
_FIRST, _LAST = ("trials", "browser", "acceptance"), ("unit",)


@pytest.hookimpl(trylast=True)  # after the shuffle
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Give each of several testers long tests first, and short ones last, so that what
    one of them has left at the end can be shared out.

    Of `--dist worksteal`, each begins with its part of the list, and who has run out
    takes the last tests of another. A file stays whole, for it plants its database
    once; so does tests/browser, for which a browser is started.
    """
    testers = getattr(config, "workerinput", {}).get("workercount", 1)
    if testers == 1:
        return
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        folder = item.path.relative_to(config.rootpath).parts[1]
        files.setdefault(folder if folder == "browser" else str(item.path), []).append(
            item
        )
    ranks: list[list[list[pytest.Item]]] = [[], [], []]
    for tests in files.values():
        folder = tests[0].path.relative_to(config.rootpath).parts[1]
        ranks[0 if folder in _FIRST else 2 if folder in _LAST else 1].append(tests)
    parts: list[list[pytest.Item]] = [[] for _ in range(testers)]
    for tests in itertools.chain(*ranks):
        min(parts, key=len).extend(tests)
    _even_out(parts)
    items[:] = itertools.chain(*parts)


def _even_out(parts: list[list[pytest.Item]]) -> None:
    """Give each part as many as worksteal sends, by moving some from their ends."""
    total = sum(map(len, parts))
    sizes = [(total + place) // len(parts) for place in range(len(parts))]
    moved: list[pytest.Item] = []
    for part, size in zip(parts, sizes, strict=True):
        moved += part[size:]
        del part[size:]
    for part, size in zip(parts, sizes, strict=True):
        wanted = size - len(part)
        part.extend(moved[:wanted])
        del moved[:wanted]


class RunsPgflow(Protocol):
    def __call__(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 - named as in subprocess.run
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(autouse=True)
def _a_clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's variables, .env and configuration files from the tests."""
    for name in list(os.environ):
        if name.startswith("PGFLOW_") or name in {
            "DATABASE_URL",
            "DATABASE_URL_FILE",
            "NO_COLOR",
            "FORCE_COLOR",
            "COLUMNS",
            "LINES",
        }:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A private server for this process, or the one of PGFLOW_TEST_URL."""
    with running_server() as started:
        yield started


@pytest.fixture(scope="session")
def template(server: Server) -> Iterator[Database]:
    """A migrated database that nobody is connected to."""
    made = server.create(_name("template"))
    try:
        _migrate(made)
        made.close()
        yield made
    finally:
        server.drop(made)


@pytest.fixture(scope="session")
def way_through(server: Server) -> Iterator[Callable[[Database], Database]]:
    """How a database is reached: with PGFLOW_TEST_POOLER through a PgBouncer."""
    if not THROUGH_A_POOLER:
        yield lambda database: database
        return
    with psycopg.connect(server.url) as connection:
        info = connection.info
        host, port, user = info.host, info.port, info.user
    with pooler(host, port, "*", user, "default_pool_size = 20") as url:
        yield lambda made: replace(made, url=url.format(made.name), direct=made.url)


@pytest.fixture(scope="session")
def untouched(server: Server) -> Iterator[list[Database]]:
    """Databases of tests that have written nothing, for the next ones: to make one and
    to drop it is most of what a usage error takes.
    """
    kept: list[Database] = []
    yield kept
    for database in kept:
        server.drop(database)


@pytest.fixture
def database(
    request: pytest.FixtureRequest,
    server: Server,
    template: Database,
    untouched: list[Database],
    way_through: Callable[[Database], Database],
) -> Iterator[Database]:
    """A migrated database of this test's own."""
    if THROUGH_A_POOLER and request.node.get_closest_marker("direct"):
        pytest.skip("needs a session of its own")
    made = untouched.pop() if untouched else clone(server, template)
    if "connection" not in request.fixturenames:
        made.close()
    before = server.transactions()
    try:
        yield way_through(made)
    finally:
        made.close()
        if server.transactions() == before and not server.sessions(made):
            untouched.append(made)
        else:
            server.drop(made)


@pytest.fixture
def empty_database(server: Server) -> Iterator[Database]:
    """A database that has never been migrated."""
    made = server.create(_name("empty"))
    try:
        yield made
    finally:
        server.drop(made)


@pytest.fixture
def connection(database: Database) -> psycopg.Connection[Any]:
    """An autocommit connection to the test's database, to plant and look at rows."""
    return database.connect()


@pytest.fixture
def repository(database: Database) -> Iterator[Repository]:
    """A repository on the test's database."""
    opened = Repository.of(DatabaseSettings(database.url))
    yield opened
    opened.close()


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Wait for a condition and return what it returned, or fail with the message."""

    def wait(condition: Callable[[], Any], message: str, *, seconds: float = 60) -> Any:
        began = time.monotonic()
        while not (value := condition()):
            waited = time.monotonic() - began
            assert waited < seconds, f"not within {seconds} s: {message}"
            # Who waits long looks less often: a look takes time from what it waits for.
            time.sleep(min(0.01 + waited / 20, 0.1))
        return value

    return wait


@pytest.fixture
def how_to_run() -> executable.Runs:
    """How `pgflow` is run."""
    return executable.fork


@pytest.fixture
def pgflow(
    database: Database, tmp_path: Path, how_to_run: executable.Runs
) -> RunsPgflow:
    """Run `pgflow` on the test's database, in a folder of its own."""

    def run(
        *arguments: str,
        input: str | None = None,  # noqa: A002
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return how_to_run(
            *arguments,
            environment={**os.environ, "DATABASE_URL": database.url, **(env or {})},
            folder=tmp_path,
            input=input,
        )

    return run


def _name(kind: str) -> str:
    """Return a database's name that no other process of this server uses."""
    return f"pgflow_{kind}_{os.getpid()}_{next(_numbers)}"


@contextmanager
def cloned(server: Server, template: Database) -> Iterator[Database]:
    """Yield a database of `clone`, with no connection to it."""
    made = clone(server, template)
    try:
        made.close()
        yield made
    finally:
        server.drop(made)


def clone(server: Server, template: Database) -> Database:
    """Make a migrated database, taken for the original: else a clone is fenced.

    The connection that has written so is its spare.
    """
    made = server.create(_name("test"), template=template.name)
    try:
        connection = made.connect()
        connection.execute(sqlfiles.statement("record_identity").text)
        made.spare.append(connection)
    except BaseException:
        server.drop(made)
        raise
    return made


def _migrate(database: Database) -> None:
    repository = Repository.of(DatabaseSettings(database.url))
    migrations.migrate(repository)
    migrations.ensure_partitions(repository)
    repository.close()
