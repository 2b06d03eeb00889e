"""Starts real workers and sees to it that none is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.acceptance.forked import Forked
from tests.support.jobs import audit
from tests.support.servers import Database

APP = Path(__file__).with_name("trial_handlers.py")
Connection = psycopg.Connection[Any]


class Worker:
    """A running `pgflow work`, and its log."""

    def __init__(self, process: Forked, log: Path) -> None:
        self.process, self.log_file = process, log
        self.pid = process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def children(self) -> list[psutil.Process]:
        """Return the worker processes: not multiprocessing's tracker, whose command is
        still the supervisor's between fork and exec.
        """
        try:
            found = psutil.Process(self.pid).children()
            return [c for c in found if "spawn_main" in " ".join(c.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)


@pytest.fixture
def start_worker(database: Database, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start `pgflow work` on the trial's database; all are gone when the trial ends."""
    with workers(database, tmp_path) as start:
        yield start


@contextmanager
def workers(database: Database, folder: Path) -> Iterator[Callable[..., Worker]]:
    """Yield what starts `pgflow work` in a folder; all of them end with the block."""
    started: list[Worker] = []

    def start(
        *options: str,
        url: str | None = None,
        app: bool = True,
        how: type[Forked] = Forked,
    ) -> Worker:
        log = folder / f"worker-{len(started)}.log"
        arguments = ["work", "--log-format", "text", "--log-level", "debug"]
        if app:
            arguments += ["--app", str(APP)]
        there = {
            "DATABASE_URL": url or database.url,
            "WITNESS_URL": url or database.url,
        }
        process = how(
            *arguments,
            *options,
            environment={**os.environ, **there},
            folder=folder,
            output=log,
        )
        started.append(Worker(process, log))
        return started[-1]

    yield start
    for worker in started:
        children = worker.children()
        worker.process.kill()
        worker.process.wait()
        _, alive = psutil.wait_procs(children, timeout=60)
        left = [child for child in alive if not is_gone(child)]
        assert not left, "worker processes outlived their supervisor"
        print(worker.log[-4000:])  # is shown if the test has failed


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended, though nobody may have reaped it yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def witness(connection: Connection) -> Callable[[str], list[tuple[str, int]]]:
    """Return a function that lists (event, attempt_no) of a job, in order."""
    return watch(connection)


def watch(connection: Connection) -> Callable[[str], list[tuple[str, int]]]:
    """Make the table that handlers write to, and a function that reads it."""
    connection.execute(
        """
        create table witness (
          n bigint generated always as identity,
          at timestamptz not null default clock_timestamp(),
          job_id uuid not null,
          attempt_no integer not null,
          event text not null,
          pid integer not null
        )
        """
    )

    def events(job_id: str) -> list[tuple[str, int]]:
        return connection.execute(
            "select event, attempt_no from witness where job_id = %s order by n",
            (job_id,),
        ).fetchall()

    return events


@pytest.fixture(autouse=True)
def _every_trial_ends_with_the_audit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever was killed: no job is in no place, none in two."""
    wanted = "start_worker" in request.fixturenames
    connection = request.getfixturevalue("connection") if wanted else None
    yield
    if connection is not None and not connection.closed:
        assert audit(connection) == (0, 0)
