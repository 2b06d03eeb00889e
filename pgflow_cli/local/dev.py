"""A server and a worker in the foreground, for developing: `pgflow dev`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pgflow_cli import local
from pgflow_cli.errors import DatabaseUnavailable, Refused, TryLater
from pgflow_cli.local import Folder, LocalServer
from pgflow_cli.local.worker import LocalWorker
from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database, Repository

_LOOK_SECONDS = 0.1  # seconds between two looks at signals and child processes
_STOP_SECONDS = 60.0  # seconds for the owner to drain its worker and stop the server

Say = Callable[[str], None]


def run(
    server: LocalServer,
    worker_options: Callable[[], Sequence[str]] | None,
    *,
    say: Say,
) -> int:
    """Run a server, and a worker unless None, until a signal or the end of either.

    The worker's options are asked for once the server runs: they may name a port that
    is free at that moment. The first signal drains the worker, a second one makes it
    leave at once; then the server stops. Return the worker's exit code.
    """
    with noted_signals() as signals, server:
        for note in server.notes:
            say(note)
        migrate(server.url)
        worker = None
        if worker_options is not None:
            worker = LocalWorker(server.url, worker_options(), server=server)
        say(f"PostgreSQL runs in {server.folder.path}; Ctrl-C stops it.")
        if server.folder.ephemeral:
            say("It does not wait for the disk (fsync=off), and its data go with it.")
        try:
            return _attend(server, worker, signals)
        finally:
            if worker is not None:
                worker.kill()


def follow(folder: Folder, *, say: Say) -> None:
    """Wait for a signal, or for the end of a server that another process owns."""
    with noted_signals() as signals:
        say(f"attached to the server that runs in {folder.path}: it stays when we end")
        while not signals and folder.is_ready():
            time.sleep(_LOOK_SECONDS)


def migrate(url: str) -> None:
    """Bring the schema of a local server up to date."""
    repository = Repository.of(Database(url))
    try:
        migrations.migrate(repository)
        migrations.ensure_partitions(repository)
    finally:
        repository.close()


def stop(data_dir: Path) -> bool:
    """Stop what `dev` runs for a data directory; whether anything ran.

    The owner is asked to, so that its worker ends its jobs.
    """
    stopped = [_stop(folder) for folder in local.folders(data_dir)]
    return any(stopped)


def reset(data_dir: Path) -> list[Path]:
    """Delete the data of a server that does not run; return the folders deleted."""
    deleted = []
    for folder in local.folders(data_dir):
        if not folder.data.exists():
            continue
        lock = folder.lock()
        if lock is None or folder.is_ready():
            raise Refused(
                f"the server in {folder.path} runs; nothing was deleted",
                "Try: pgflow dev stop",
            )
        folder.remove()
        os.close(lock)
        deleted.append(folder.path)
    return deleted


def _attend(server: LocalServer, worker: LocalWorker | None, signals: list[int]) -> int:
    told = 0
    while True:
        if worker is not None and (code := worker.exit_code) is not None:
            return code
        if signals and worker is None:
            return 0
        if worker is not None and len(signals) > told:
            told = len(signals)
            worker.drain()
        if not server.alive:
            raise DatabaseUnavailable(
                f"the server in {server.folder.path} ended by itself",
                f"Its last words: {server.folder.log}",
            )
        time.sleep(_LOOK_SECONDS)


def _stop(folder: Folder) -> bool:
    owner = folder.owner()
    if owner is None:
        # Owner and guard were killed: only this process can stop the server now.
        lock = folder.lock() if folder.postmaster() is not None else None
        if lock is None:
            return False
        folder.end(folder.programs())
        os.close(lock)
        return True
    os.kill(owner, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while folder.owner() == owner:
        if time.monotonic() > deadline:
            raise TryLater(
                f"process {owner} still waits for its worker's jobs",
                f"To make it leave them: kill -TERM {owner}",
            )
        time.sleep(_LOOK_SECONDS)
    return True


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Hand out a list that grows with each signal to stop."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, lambda n, _: received.append(n)) for n in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
