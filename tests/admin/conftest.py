"""The admin server in this process, over a real database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from werkzeug.test import Client, TestResponse

from pgflow_cli.admin import api, problems
from pgflow_cli.admin.plan import AdminPlan
from pgflow_cli.admin.service import Service
from pgflow_cli.repository import Repository
from tests.admin.planting import Planted, plant_everything
from tests.servers import Database

PROBLEM = {"type", "title", "status", "error", "code", "request_id"}


class MakesClients(Protocol):
    def __call__(self, **settings: Any) -> Client: ...


@pytest.fixture
def client_of(database: Database) -> Iterator[MakesClients]:
    """Make clients of admin servers on the test's database, with settings of theirs."""
    services: list[Service] = []

    def make(**settings: Any) -> Client:
        plan = AdminPlan(**{"url": database.url, "access_log": False, **settings})
        services.append(Service(plan))
        return Client(api.application(services[-1]))

    yield make
    for service in services:
        service.end()
        service.close()


@pytest.fixture
def client(client_of: MakesClients) -> Client:
    """A client of an admin server that needs no token."""
    return client_of()


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
