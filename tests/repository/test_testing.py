"""`pgflow_cli.testing.drain` runs an application's jobs inside a test of its own."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import pgflow_cli
from pgflow_cli import App, Fail, Job
from pgflow_cli.testing import drain
from tests.support.jobs import audit, plant, status_of

Connection = psycopg.Connection[Any]


@pytest.fixture
def app() -> App:
    made = App()
    made.handler("quick")(lambda job: None)

    @made.handler("followed")
    def followed(job: Job) -> None:
        job.enqueue("quick", {"from": job.id})

    @made.handler("gives_up")
    def gives_up(job: Job) -> None:
        raise Fail(message="no such customer")

    @made.handler("asynchronous")
    async def asynchronous(job: Job) -> None:
        job.progress(1, 1)

    @made.handler("endless")
    def endless(job: Job) -> None:
        job.enqueue("endless")

    return made


def test_what_is_runnable_is_run_and_what_it_enqueues(
    connection: Connection, app: App
) -> None:
    [first] = plant(connection, job_type="followed")
    [second] = plant(connection, job_type="asynchronous")
    [future] = plant(connection, job_type="quick", due_in="1 hour")
    ran = drain(connection, app)
    assert [r.job_type for r in ran] == ["followed", "asynchronous", "quick"]
    assert {r.outcome.status for r in ran} == {"succeeded"}
    assert {status_of(connection, j) for j in (first, second)} == {"succeeded"}
    assert status_of(connection, future) == "scheduled"
    assert audit(connection) == (0, 0)


def test_outcomes_are_recorded_as_a_worker_would(
    connection: Connection, app: App
) -> None:
    [job] = plant(connection, job_type="gives_up")
    [other] = plant(connection, job_type="not_here")
    [ran] = drain(connection, app)
    assert ran.outcome.dlq_reason_code == "NON_RETRYABLE"
    assert status_of(connection, job) == "dlq"
    assert status_of(connection, other) == "queued"
    assert audit(connection) == (0, 0)


def test_in_a_transaction_that_is_rolled_back_nothing_has_happened(
    database: Any, connection: Connection, app: App
) -> None:
    own = database.connect(autocommit=False)
    pgflow_cli.enqueue(own, "quick", {})
    assert len(drain(own, app)) == 1
    own.rollback()
    row = connection.execute("select count(*) from pgflow.jobs").fetchone()
    assert row == (0,)


def test_jobs_that_enqueue_each_other_end_the_test(
    connection: Connection, app: App
) -> None:
    plant(connection, job_type="endless")
    with pytest.raises(RuntimeError, match="after 20 attempts"):
        drain(connection, app, most=20)
    assert audit(connection) == (0, 0)
