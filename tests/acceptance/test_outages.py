"""An outage of the database costs time; it never ends a worker and never
loses a job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.jobs import audit, plant, status_of
from tests.private_servers import (
    PrivateServer,
    pgbouncer,
    private_server,
    stalling_proxy,
)
from tests.servers import Database

Start = Callable[..., Worker]
Wait = Callable[..., Any]


@pytest.fixture
def own_server() -> Iterator[PrivateServer]:
    """A server that the trial may kill."""
    with private_server() as server:
        yield server


def connect(url: str, wait_until: Wait) -> psycopg.Connection[Any]:
    def attempt() -> psycopg.Connection[Any] | None:
        try:
            return psycopg.connect(url, autocommit=True)
        except psycopg.OperationalError:
            return None

    return wait_until(attempt, "the server is back")


def outcomes(connection: psycopg.Connection[Any], jobs: list[str]) -> set[str]:
    return {status_of(connection, j) for j in jobs}


@pytest.mark.slow
def test_a_database_killed_in_the_middle_of_batches_loses_nothing(
    own_server: PrivateServer, start_worker: Start, wait_until: Wait
) -> None:
    url = own_server.migrated()
    with psycopg.connect(url, autocommit=True) as connection:
        jobs = plant(connection, 3000, job_type="quick")
    worker = start_worker("--processes", "2", "--lease-seconds", "3", url=url)
    for round_ in range(3):
        with connect(url, wait_until) as connection:
            wanted = 500 * (round_ + 1)
            wait_until(
                lambda c=connection, n=wanted: c.execute(
                    "select count(*) >= %s from pgflow.job_attempts", (n,)
                ).fetchone()[0],
                "jobs are settled",
            )
        own_server.kill()
        own_server.start()
    with connect(url, wait_until) as connection:
        wait_until(
            lambda: outcomes(connection, jobs) == {"succeeded"},
            "all are settled",
            seconds=60,
        )
        row = connection.execute(
            "select count(*) - count(distinct job_id) from pgflow.job_attempts"
            " where status = 'succeeded'"
        ).fetchone()
        assert row == (0,)
        assert audit(connection) == (0, 0)
    assert worker.process.poll() is None


@pytest.mark.slow
def test_a_worker_started_before_its_database_waits_for_it(
    own_server: PrivateServer, start_worker: Start, wait_until: Wait
) -> None:
    url = own_server.migrated()
    own_server.kill()
    worker = start_worker(url=url)
    wait_until(
        lambda: "unavailable" in worker.log or "cannot connect" in worker.log,
        "it waits",
    )
    assert worker.process.poll() is None
    own_server.start()
    with connect(url, wait_until) as connection:
        jobs = plant(connection, 3, job_type="quick")
        wait_until(lambda: outcomes(connection, jobs) == {"succeeded"}, "they run")


@pytest.mark.slow
def test_terminated_backends_are_replaced(
    database: Database, start_worker: Start, wait_until: Wait
) -> None:
    connection = database.connect()
    jobs = plant(connection, 2000, job_type="quick")
    worker = start_worker("--lease-seconds", "3")
    for wanted in (200, 800, 1400):
        wait_until(
            lambda n=wanted: connection.execute(
                "select count(*) >= %s from pgflow.job_attempts", (n,)
            ).fetchone()[0],
            "jobs are settled",
        )
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name like 'pgflow%'"
        )
    wait_until(
        lambda: outcomes(connection, jobs) == {"succeeded"},
        "all are settled",
        seconds=60,
    )
    assert worker.process.poll() is None
    assert audit(connection) == (0, 0)


@pytest.mark.slow
def test_behind_a_transaction_pooler_it_says_so_once_and_polls(
    database: Database,
    start_worker: Start,
    wait_until: Wait,
) -> None:
    with pgbouncer(database) as url:
        connection = database.connect()
        jobs = plant(connection, 500, job_type="quick")
        worker = start_worker(url=url)
        wait_until(lambda: outcomes(connection, jobs) == {"succeeded"}, "they run")
        wait_until(lambda: "LISTEN delivers nothing" in worker.log, "it says so")
        late = plant(connection, 3, job_type="quick")
        wait_until(
            lambda: outcomes(connection, late) == {"succeeded"}, "polling finds them"
        )
        assert worker.log.count("LISTEN delivers nothing") == 1
    assert worker.process.poll() is None


@pytest.mark.slow
def test_a_silent_server_does_not_hold_a_worker_for_longer_than_a_call_may_take(
    database: Database, start_worker: Start, wait_until: Wait
) -> None:
    connection = database.connect()
    with stalling_proxy(database) as (url, proxy):
        worker = start_worker("--lease-seconds", "1", url=url)
        wait_until(
            lambda: connection.execute(
                "select 1 from pgflow.workers where idle"
            ).fetchone(),
            "it is idle",
        )
        proxy.stall()
        wait_until(lambda: "was lost" in worker.log, "the calls are freed")
        jobs = plant(connection, 3, job_type="quick")
        wait_until(
            lambda: outcomes(connection, jobs) == {"succeeded"}, "it has connected anew"
        )
        assert worker.process.poll() is None
        assert audit(connection) == (0, 0)
