"""The audit query: it finds what it is there to find."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from pgflow_cli.repository import sqlfiles
from tests.support.jobs import plant, successes

Connection = psycopg.Connection[Any]
ANY_ID = "gen_random_uuid()"


def audit(connection: Connection) -> tuple[Any, ...]:
    row = connection.execute(sqlfiles.statement("audit_jobs").text).fetchone()
    assert row is not None
    return row[:3]


def lease(connection: Connection, job_id: str, attempt_no: int = 1) -> None:
    connection.execute(
        "insert into pgflow.leases"
        " (batch_id, worker_id, expires_at, queue, worker_name, job_ids, attempt_nos)"
        f" values ({ANY_ID}, {ANY_ID}, now(), 'default', 'w', array[%s::uuid], %s)",
        (job_id, [attempt_no]),
    )


def attempt(connection: Connection, job_id: str, status: str, number: int = 1) -> None:
    if status == "succeeded":
        connection.execute(
            successes(f"select '{job_id}'::uuid as job_id", attempt_no=number)
        )
        return
    connection.execute(
        "insert into pgflow.job_attempts"
        " (job_id, lease_id, started_at, attempt_no, status, worker_name)"
        f" values (%s, {ANY_ID}, now(), %s, %s, 'w')",
        (job_id, number, status),
    )


def bury(connection: Connection, job_id: str) -> None:
    connection.execute(
        "insert into pgflow.dead_letters (job_id, attempt_no, failed_attempts, queue,"
        " job_type, dlq_reason_code) values (%s, 1, 1, 'default', 'noop', 'X')",
        (job_id,),
    )


def cancel(connection: Connection, job_id: str) -> None:
    connection.execute(
        "insert into pgflow.canceled_jobs (job_id, queue, canceled_by)"
        " values (%s, 'default', 'me')",
        (job_id,),
    )


def unqueue(connection: Connection, job_id: str) -> None:
    connection.execute("delete from pgflow.pending where job_id = %s", (job_id,))


PLACES = {
    "leased": lease,
    "succeeded": lambda c, j: attempt(c, j, "succeeded"),
    "dead": bury,
    "canceled": cancel,
}


@pytest.mark.parametrize("place", PLACES)
def test_each_place_alone_is_right_and_a_second_one_is_found(connection, place):
    [job_id] = plant(connection)
    assert audit(connection) == (0, 0, 0)
    PLACES[place](connection, job_id)
    assert audit(connection) == (0, 1, 0), "pending as well"
    unqueue(connection, job_id)
    assert audit(connection) == (0, 0, 0)


def test_a_job_in_no_place_is_found(connection):
    lost, kept = plant(connection, 2)
    unqueue(connection, lost)
    attempt(connection, lost, "failed")
    assert audit(connection) == (1, 0, 0)
    unqueue(connection, kept)
    assert audit(connection) == (2, 0, 0)


def test_a_job_that_succeeded_among_others_is_in_one_place(connection):
    first, second, third = plant(connection, 3)
    connection.execute("delete from pgflow.pending")
    for job_id in (first, second):
        attempt(connection, job_id, "succeeded")
    connection.execute(
        "update pgflow.job_successes set job_ids = job_ids || %s::uuid,"
        " attempt_nos = '{1,1}', started_ago = '{0,0}', ended_ago = '{0,0}'"
        " where first_id = %s",
        (third, second),
    )
    assert audit(connection) == (0, 0, 0)
    lease(connection, third)
    assert audit(connection) == (0, 1, 0)


def test_a_place_that_names_an_unknown_job_is_found(connection):
    connection.execute(
        "insert into pgflow.pending (queue, rank, run_at, job_id, job_type)"
        f" values ('default', 0, now(), {ANY_ID}, 'noop')"
    )
    lease(connection, str(uuid.uuid4()))
    assert audit(connection) == (0, 0, 2)


def test_history_may_be_kept_longer_than_its_job(connection):
    [job_id] = plant(connection)
    unqueue(connection, job_id)
    connection.execute("delete from pgflow.jobs where id = %s", (job_id,))
    attempt(connection, job_id, "succeeded")
    bury(connection, str(uuid.uuid4()))
    assert audit(connection) == (0, 0, 0)
