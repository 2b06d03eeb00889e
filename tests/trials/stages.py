"""Stages: which servers, supervisors and producers a trial runs, and what lies between.

Each is a function that yields a `Stage`; one that misses a program skips, as tests do.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import psycopg

from tests.support import servers
from tests.support.private_servers import PrivateServer, pgbouncer, private_server
from tests.support.tools import missing, needs_tool
from tests.trials import restores  # noqa: F401  (its faults are known by it)
from tests.trials.faults import Stage
from tests.trials.proxy import running_proxy
from tests.trials.rig import ROLE, ROOT, Rig, rig_of

_RATE = 20.0  # jobs a second: two cores have faults to deal with, too
# Under libfaketime 0.9.10 each sleep of Python 3.11 fails: it waits for an instant of
# the monotonic clock, which the library refuses.
_SLEEPS = "import select, time\ntime.sleep = lambda s: select.select([], [], [], s)\n"

Scenery = Callable[[int], AbstractContextManager[Stage]]
STAGES: dict[str, Scenery] = {}


def stage(make: Callable[[int], Iterator[Stage]]) -> Scenery:
    """Register a stage under its name."""
    STAGES[make.__name__] = made = contextmanager(make)
    return made


@stage
def pair(seed: int) -> Iterator[Stage]:
    """Two supervisors, one of them behind a proxy."""
    with (
        _small_server() as server,
        _rig(server, seed) as rig,
        running_proxy(server.socket) as proxy,
    ):
        rig.work("direct")
        rig.work("proxied", url=proxy.url.replace("postgres@", f"{ROLE}@"))
        rig.produce(_RATE)
        yield Stage(rig, proxy)


@stage
def alone(seed: int) -> Iterator[Stage]:
    """One supervisor: what it leaves behind, no other one finds."""
    with (
        _small_server() as server,
        _rig(server, seed) as rig,
        running_proxy(server.socket) as proxy,
    ):
        rig.work("alone", url=proxy.url.replace("postgres@", f"{ROLE}@"))
        rig.produce(_RATE / 2)
        yield Stage(rig, proxy)


@stage
def pooled(seed: int) -> Iterator[Stage]:
    """One supervisor behind PgBouncer in transaction mode, one beside it."""
    with (
        _small_server() as server,
        _rig(server, seed) as rig,
        pgbouncer(servers.Database(rig.url, "postgres")) as url,
    ):
        rig.work("direct")
        rig.work("pooled", url=url)
        rig.produce(_RATE)
        yield Stage(rig)


@stage
def skewed(seed: int) -> Iterator[Stage]:
    """Two supervisors; the clock of one host steps."""
    with _small_server() as server, _rig(server, seed) as rig:
        clock = rig.folder / "clock"
        clock.write_text("+0")
        rig.work("direct")
        (rig.folder / "sitecustomize.py").write_text(_SLEEPS)
        paths = f"{rig.folder}{os.pathsep}{ROOT}"
        rig.work("skewed", environment={**_faked(clock), "PYTHONPATH": paths})
        rig.produce(_RATE)
        yield Stage(rig, clock=clock)


@stage
def adrift(seed: int) -> Iterator[Stage]:
    """Two supervisors; the database's own clock steps."""
    with ExitStack() as opened:
        folder = opened.enter_context(servers.own_folder(servers.find_binaries()))
        clock = folder / "clock"
        clock.write_text("+0")
        server = opened.enter_context(_small_server(_faked(clock)))
        rig = opened.enter_context(_rig(server, seed))
        rig.work("one")
        rig.work("other")
        rig.produce(_RATE)
        yield Stage(rig, clock=clock, clock_of_server=True)


@stage
def cramped(seed: int) -> Iterator[Stage]:
    """Two supervisors; the server's disk is small, and can be filled."""
    if os.geteuid() != 0:
        missing("only root can mount a disk of its own")
    binaries = servers.find_binaries()
    with servers.own_folder(binaries) as folder, _mounted(folder / "data") as disk:
        servers.initialise(
            binaries, folder, fsync="on", full_page_writes="on", max_wal_size="64MB"
        )
        server = PrivateServer(binaries, folder)
        server.start()
        with _rig(server, seed) as rig:
            rig.work("one")
            rig.work("other")
            rig.produce(_RATE)
            yield Stage(rig, disk=disk)
        server.kill()


@stage
def restored(seed: int) -> Iterator[Stage]:
    """Two supervisors; the database goes back to a dump beside them."""
    with _small_server() as server, _rig(server, seed) as rig:
        rig.work("one")
        rig.work("other")
        rig.produce(_RATE)
        yield Stage(rig, restores=True)


@stage
def replicated(seed: int) -> Iterator[Stage]:
    """Two supervisors that know both servers; one is the other's synchronous standby,
    and takes over.
    """
    binaries = servers.find_binaries()
    with ExitStack() as opened:
        primary = opened.enter_context(private_server(wal_keep_size="64MB"))
        folder = opened.enter_context(servers.own_folder(binaries))
        standby = PrivateServer(binaries, folder)
        hosts = f"{primary.folder},{folder}&target_session_attrs=read-write"
        url = f"postgresql://{ROLE}@/postgres?host={hosts}"
        rig = opened.enter_context(_rig(primary, seed, url))
        _follow(rig, standby)
        rig.work("one")
        rig.work("other")
        rig.produce(_RATE)
        pair = [primary, standby]

        def fail_over() -> None:
            old, new = pair
            old.kill()
            servers.promote(binaries, new.folder)
            rig.server = new
            _follow(rig, old)
            pair.reverse()

        yield Stage(rig, fail_over=fail_over)
        pair[1].kill()


def _small_server(
    environment: Mapping[str, str] | None = None,
) -> AbstractContextManager[PrivateServer]:
    """Return a server of which the connections can run out."""
    return private_server(environment=environment, max_connections="40")


@contextmanager
def _rig(server: PrivateServer, seed: int, url: str | None = None) -> Iterator[Rig]:
    with rig_of(server, seed, url) as rig:
        rig.migrate()
        yield rig


def _follow(rig: Rig, standby: PrivateServer) -> None:
    """Make a server the synchronous standby of the rig's, whatever it was before."""
    subprocess.run(["rm", "-rf", standby.folder / "data"], check=True)
    servers.copy(standby.binaries, standby.folder, rig.server.folder)
    standby.start()
    rig.sql("alter system set synchronous_standby_names = '*'")
    rig.sql("select pg_reload_conf()")
    with psycopg.connect(rig.server.url) as watching:
        text = "select from pg_stat_replication where sync_state = 'sync'"
        rig.wait(lambda: watching.execute(text).rowcount, "the standby follows")


def _faked(clock: Path) -> Mapping[str, str]:
    """Return an environment in which the clock follows a file; monotonic time does
    not step, because that of no host does.
    """
    needs_tool("faketime")
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        missing("libfaketime is not installed")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DISABLE_SHM": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    owner = servers.server_owner()
    options = f"size=250m,mode=700,uid={owner['user']},gid={owner['group']}"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "pgflow-trial", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
