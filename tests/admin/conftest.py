"""The admin server in this process, over a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import psycopg
import pytest
from werkzeug.test import Client, TestResponse

from pgflow_cli.admin import application, problems
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.admin.service import Service
from pgflow_cli.repository import Repository
from tests.admin.planting import Planted, plant_everything
from tests.conftest import cloned
from tests.support.servers import Database, Server

PROBLEM = {"type", "title", "status", "error", "code", "request_id"}


class MakesClients(Protocol):
    def __call__(self, **settings: Any) -> Client: ...


@contextmanager
def making_clients(database: Database) -> Iterator[MakesClients]:
    """Yield what makes clients of admin servers on a database, with settings."""
    services: list[Service] = []

    def make(**settings: Any) -> Client:
        options = AdminOptions(**{"url": database.url, "access_log": False, **settings})
        services.append(Service(options))
        return Client(application.application(services[-1]))

    try:
        yield make
    finally:
        for service in services:
            service.end()
            service.close()


@pytest.fixture
def client_of(database: Database) -> Iterator[MakesClients]:
    """Make clients of admin servers on the test's database, with settings of theirs."""
    with making_clients(database) as make:
        yield make


@pytest.fixture
def client(client_of: MakesClients) -> Client:
    """A client of an admin server that needs no token."""
    return client_of()


@pytest.fixture(scope="session")
def unchanged(server: Server, template: Database) -> Iterator[Database]:
    """An empty database for requests that change nothing: a database of its own for
    each of these tests would be most of what they take.
    """
    with cloned(server, template) as shared:
        yield shared


@pytest.fixture(scope="session")
def seen(unchanged: Database) -> Callable[[], dict[str, int]]:
    """Count what is in the database that nothing changes."""
    return partial(contents, unchanged.connect())


@pytest.fixture
def refusing(
    unchanged: Database, seen: Callable[[], dict[str, int]]
) -> Iterator[MakesClients]:
    """Make clients for requests that change nothing, as all that are refused."""
    before = seen()
    with making_clients(unchanged) as make:
        yield make
    assert seen() == before


@pytest.fixture
def refuser(refusing: MakesClients) -> Client:
    """A client for requests that change nothing, of a server that needs no token."""
    return refusing()


def contents(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Return how many rows each table has that a request could change."""
    tables = (
        *("jobs", "pending", "dead_letters", "replay_plans"),
        *("queue_policies", "operator_actions", "ingest_decisions"),
    )
    text = " union all ".join(
        f"select '{table}', count(*) from pgflow.{table}" for table in tables
    )
    return dict(connection.execute(text).fetchall())


@pytest.fixture
def planted(connection: Any, repository: Repository) -> Planted:
    """Something in every state that an operator can meet."""
    return plant_everything(connection, repository)


def got(client: Client, path: str) -> Any:
    """Return the document at a path, which must be there."""
    response = client.get(path)
    assert response.status_code == 200, response.text
    return response.get_json()


def problem_of(response: TestResponse, status: int, code: str = "") -> dict[str, Any]:
    """Return the problem document of an answer, checked for what all of them have."""
    assert response.status_code == status, response.text
    assert response.content_type == problems.MEDIA_TYPE
    document: dict[str, Any] = response.get_json()
    assert document.keys() >= PROBLEM
    assert document["status"] == status
    assert document["request_id"] == response.headers["X-Request-Id"]
    assert document["error"]
    if code:
        assert document["code"] == code
    return document
