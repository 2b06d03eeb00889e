"""A timeout of the role or the database is named where it is what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest

import pgflow_cli
from pgflow_cli.errors import Blocked, DatabaseUnavailable, OutcomeUnknown, PgflowError
from pgflow_cli.repository import Repository
from tests.conftest import RunsPgflow
from tests.support.servers import Database, Server

pytestmark = pytest.mark.direct  # they set what a session keeps
Connection = psycopg.Connection[Any]

ENDING = [
    ("idle_session_timeout", False, 15),
    ("idle_in_transaction_session_timeout", True, 15),
    ("transaction_timeout", True, 17),
]


@pytest.mark.parametrize("name", ["statement_timeout", "lock_timeout"])
def test_a_canceled_statement_names_the_setting(
    database: Database, connection: Connection, pgflow: RunsPgflow, name: str
) -> None:
    connection.execute(f"alter database {database.name} set {name} = '200ms'")
    with database.connect(autocommit=False) as locker:
        locker.execute("lock table pgflow.jobs in access exclusive mode")
        told = pgflow("enqueue", "a")
    assert told.returncode == (75 if name == "lock_timeout" else 69)
    assert name in told.stderr
    assert "pgflow doctor --check session" in told.stderr
    assert "not reachable" not in told.stderr


@pytest.mark.parametrize(("name", "within", "since"), ENDING)
def test_a_session_that_a_timeout_has_ended_is_no_doubt_about_the_statement(
    server: Server,
    repository: Repository,
    connection: Connection,
    wait_until: Callable[..., Any],
    name: str,
    within: bool,
    since: int,
) -> None:
    if server.version < since:
        pytest.skip(f"{name} is new in PostgreSQL {since}")
    link = repository.link
    link.read_clock()

    def call_too_late() -> None:
        with link.transaction() if within else nullcontext():
            link.raw().execute(f"set {name} = '10ms'")
            end_of(link.raw(), connection, wait_until)
            link.read_clock()

    with pytest.raises(DatabaseUnavailable) as raised:
        call_too_late()
    assert not isinstance(raised.value, OutcomeUnknown)
    assert raised.value.hints[0].startswith(name)
    assert link.read_clock()


def test_a_session_whose_end_was_read_before_the_next_statement_is_no_doubt(
    repository: Repository, connection: Connection, wait_until: Callable[..., Any]
) -> None:
    """The last reply and the end came together, to a client that was slow to read."""
    link = repository.link
    link.read_clock()
    session = link.raw().pgconn
    session.send_query(b"set idle_session_timeout = '10ms'")
    end_of(link.raw(), connection, wait_until)
    while session.get_result():
        pass
    with pytest.raises(DatabaseUnavailable) as raised:
        link.read_clock()
    assert not isinstance(raised.value, OutcomeUnknown)
    assert raised.value.hints[0].startswith("idle_session_timeout")
    assert link.read_clock()


@pytest.mark.parametrize(("name", "within", "since"), ENDING)
def test_a_producers_session_that_a_timeout_has_ended_is_no_doubt_either(
    server: Server,
    database: Database,
    connection: Connection,
    wait_until: Callable[..., Any],
    name: str,
    within: bool,
    since: int,
) -> None:
    if server.version < since:
        pytest.skip(f"{name} is new in PostgreSQL {since}")
    own = database.connect(autocommit=not within)
    own.execute(f"set {name} = '10ms'")
    end_of(own, connection, wait_until)
    with pytest.raises(PgflowError) as raised:
        pgflow_cli.enqueue(own, "a")
    assert type(raised.value) is DatabaseUnavailable
    assert raised.value.hints[0].startswith(name)


def test_a_wait_that_lock_timeout_ends_names_it(
    database: Database, connection: Connection
) -> None:
    with database.connect(autocommit=False) as locker:
        locker.execute("lock table pgflow.jobs in access exclusive mode")
        connection.execute("set lock_timeout = '1ms'")
        with pytest.raises(Blocked) as raised:
            pgflow_cli.enqueue(connection, "a")
    assert raised.value.hints[0].startswith("lock_timeout")


def end_of(
    ending: Connection, connection: Connection, wait_until: Callable[..., Any]
) -> None:
    """Wait until the server has ended a session."""
    pid = ending.info.backend_pid
    wait_until(
        lambda: (
            connection.execute(
                "select from pg_stat_activity where pid = %s", (pid,)
            ).fetchone()
            is None
        ),
        "the session has ended",
    )
