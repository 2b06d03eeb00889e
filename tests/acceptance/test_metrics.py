"""Counters of real workers never fall, whatever becomes of the workers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pgflow_cli.inspection.scrape import Scraper
from pgflow_cli.repository import Database, Repository
from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.support import exported, servers
from tests.support.jobs import expire_leases, plant

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]


class Watch:
    """Scrapes again and again, and notes every counter that falls or goes."""

    def __init__(self, database: servers.Database) -> None:
        self._database = database
        self._scraper = Scraper(self._open, cache_seconds=0.0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.fallen: set[tuple[str, ...]] = set()
        self.last: dict[tuple[str, ...], float] = {}
        self.scrapes = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        text = self._scraper.text()
        assert exported.samples(text)["pgflow_db_up",] == 1
        found = exported.counters(text)
        self.fallen |= {k for k, v in self.last.items() if found.get(k, -1.0) < v}
        self.last = found
        self.scrapes += 1

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of a counter's series that have these labels."""
        wanted = {f"{k}={v}" for k, v in labels.items()}
        return sum(v for k, v in self.last.items() if k[0] == name and wanted <= set(k))

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            self.look()

    @contextmanager
    def _open(self) -> Iterator[Repository]:
        repository = Repository.of(Database(self._database.url))
        try:
            yield repository
        finally:
            repository.close()


@pytest.mark.slow
@pytest.mark.usefixtures("witness")
def test_no_counter_falls_over_a_kill_a_restart_and_maintain(
    database: servers.Database,
    connection: Connection,
    start_worker: Start,
    pgflow: RunsPgflow,
    wait_until: Wait,
) -> None:
    plant(connection, 200, job_type="quick")
    plant(connection, 20, job_type="gives_up", queue="emails")
    # Folding waits for a minute after a supervisor's first count.
    connection.execute(
        "alter table pgflow.worker_counters"
        " alter first_at set default now() - interval '1 hour'"
    )
    with Watch(database) as watch:
        first = start_worker("-q", "*", "--lease-seconds", "3")
        wait_until(
            lambda: watch.sum("pgflow_attempts_total", outcome="succeeded") >= 200,
            "they are done and told",
        )
        plant(connection, 5, job_type="patient")
        wait_until(
            lambda: connection.execute("select 1 from pgflow.leases").fetchone(),
            "they run",
        )
        first.send(signal.SIGKILL)
        first.wait()
        expire_leases(connection)
        connection.execute("delete from pgflow.workers")
        second = start_worker("-q", "*", "--lease-seconds", "3")
        assert pgflow("maintain", "--lock-wait", "30s").returncode == 0
        wait_until(
            lambda: watch.sum("pgflow_jobs_enqueued_total") == 225,
            "what was enqueued is told",
            seconds=60,
        )
        wait_until(
            lambda: watch.sum("pgflow_leases_expired_total") >= 1, "it was reaped"
        )
        connection.execute("delete from pgflow.workers")
        assert pgflow("maintain", "--lock-wait", "30s").returncode == 0
        second.send(signal.SIGKILL)
        second.wait()
    assert not watch.fallen
    assert watch.scrapes > 10
    assert watch.sum("pgflow_jobs_enqueued_total", job_type="quick") == 200
    assert watch.sum("pgflow_jobs_enqueued_total", queue="emails") == 20
