"""Probes: whether the supervisor's loop turns, and whether the schema is ours."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from werkzeug.test import Client

from pgflow_cli.admin import application
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.admin.service import Service
from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Repository
from tests.admin.conftest import problem_of
from tests.support.servers import Database


class Supervisor:
    """When a loop has last turned, as its companion is told."""

    def __init__(self) -> None:
        self.turned = time.monotonic()

    def turned_at(self) -> float:
        return self.turned


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor()


@pytest.fixture(params=[False, True], ids=["admin", "probe"])
def beside(
    request: pytest.FixtureRequest, database: Database, supervisor: Supervisor
) -> Iterator[Client]:
    """A client of a server beside that supervisor."""
    options = AdminOptions(url=database.url, access_log=False, probe_only=request.param)
    service = Service(options, beat=supervisor.turned_at)
    yield Client(application.application(service))
    service.end()
    service.close()


@pytest.mark.parametrize("path", ["/health", "/health/started", "/health/ready"])
def test_a_server_is_as_well_as_its_supervisors_loop(
    beside: Client, supervisor: Supervisor, path: str
) -> None:
    assert beside.get(path).text == "ok"
    supervisor.turned -= 61
    problem_of(beside.get(path), 503, "NOT_TURNING")
    supervisor.turned = time.monotonic()
    assert beside.get(path).text == "ok"


def test_without_our_schema_a_server_lives_and_is_not_ready(
    empty_database: Database,
) -> None:
    service = Service(AdminOptions(url=empty_database.url, access_log=False))
    client = Client(application.application(service))
    try:
        assert client.get("/health").text == "ok"
        assert client.get("/health/started").text == "ok"
        told = problem_of(client.get("/health/ready"), 503, "NOT_READY")
        assert told["error"] == "the schema is not the one I need"
        repository = Repository.of(Settings(empty_database.url))
        migrations.migrate(repository)
        repository.close()
        assert client.get("/health/ready").text == "ok"
    finally:
        service.close()
