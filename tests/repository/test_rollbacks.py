"""What becomes of a transaction whose connection is gone: the caller is told, once."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import DatabaseUnavailable
from pgflow_cli.repository import Repository

Connection = psycopg.Connection[Any]


def end_session(repository: Repository, connection: Connection) -> None:
    backend = repository.link.raw().info.backend_pid
    connection.execute("select pg_terminate_backend(%s, 10000)", (backend,))


@pytest.mark.direct
def test_a_lost_connection_is_told_by_its_error_alone(
    repository: Repository, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    def meet_it() -> None:
        with repository.transaction():
            end_session(repository, connection)
            repository.diagnosis.read_clock()

    with pytest.raises(DatabaseUnavailable):
        meet_it()
    assert caplog.records == []


def test_so_is_one_that_only_the_rollback_finds_lost(
    repository: Repository, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_for_another_reason() -> None:
        with repository.transaction():
            repository.diagnosis.read_clock()
            end_session(repository, connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_for_another_reason()
    assert caplog.records == []


def test_what_others_log_of_theirs_is_heard(
    repository: Repository, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with repository.transaction():
        logging.getLogger("psycopg.transaction").warning("of an application")
    assert [record.message for record in caplog.records] == ["of an application"]
