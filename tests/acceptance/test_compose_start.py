"""`docker compose up` on a machine with nothing configured, on an empty database."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.machines import PATIENCE, Machine
from tests.support.jobs import status_of
from tests.support.servers import Database

Wait = Callable[..., Any]


@pytest.fixture
def machine(tmp_path: Path, database: Database) -> Iterator[Machine]:
    made = Machine(tmp_path, database)
    yield made
    made.stop()


def asked(url: str, token: str | None = None) -> tuple[int, str]:
    """Return status and body, as curl and Invoke-WebRequest see them."""
    request = urllib.request.Request(url)  # noqa: S310 - our own, on loopback
    if token:
        request.add_header("x-api-key", token)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except urllib.error.URLError as error:
        return 0, str(error.reason)


def test_an_empty_machine_gets_a_worker_that_works_and_an_admin_that_answers(
    machine: Machine, empty_database: Database, wait_until: Wait
) -> None:
    machine.database = empty_database
    machine.start("pgflow", "pgflow-1")
    wait_until(
        lambda: machine.is_healthy("pgflow", "pgflow-1"),
        "it is healthy",
        seconds=PATIENCE,
    )
    connection = machine.database.connect()
    row = connection.execute("select pgflow.enqueue('demo_ok', '{\"ms\": 1}')")
    [job] = row.fetchone() or ()
    wait_until(lambda: status_of(connection, job) == "succeeded", "a demo job runs")

    # The smoke checks of the runbook, without a token.
    site = f"http://localhost:{machine.port}"
    wait_until(lambda: asked(f"{site}/health") == (200, "ok"), "the admin API answers")
    status, body = asked(f"{site}/metrics")
    assert status == 200
    assert {"now_utc", "queues"} <= set(json.loads(body))
    status, body = asked(f"{site}/dlq")
    assert status == 200
    assert json.loads(body)["items"] == []
    assert asked(f"{site}/health/ready")[0] == 200
    assert machine.stop() == [0]
    # From the first line to the last: a collector of the engine's logs reads JSON only.
    lines = machine.log("pgflow-1").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events[0] == "settings"
    assert {"no_token", "listening", "request"} <= set(events)


def test_two_workers_are_two(
    machine: Machine, wait_until: Wait, connection: psycopg.Connection[Any]
) -> None:
    names = [f"worker-{number}" for number in (1, 2)]
    for name in names:
        machine.start("worker", name)
    wait_until(lambda: len(workers(connection)) == 2, "two are there", seconds=PATIENCE)
    assert len(set(workers(connection))) == 2
    for name in names:
        wait_until(
            lambda n=name: machine.is_healthy("worker", n),
            "it is healthy",
            seconds=PATIENCE,
        )
        assert "listens on" not in machine.log(name).read_text()
    assert machine.stop() == [0, 0]


def workers(connection: psycopg.Connection[Any]) -> list[str]:
    return [n for (n,) in connection.execute("select name from pgflow.workers")]


def test_without_the_word_of_the_compose_file_the_address_needs_a_token(
    machine: Machine,
) -> None:
    process = machine.start("pgflow", "pgflow-1", {"PGFLOW_ADMIN_INSECURE": "0"})
    assert process.wait(60) == 78
    assert "token" in machine.log("pgflow-1").read_text()


def test_a_token_of_the_env_file_is_asked_for(
    machine: Machine, wait_until: Wait
) -> None:
    machine.start("pgflow", "pgflow-1", {"PGFLOW_API_TOKEN": "a-token-of-the-env-file"})
    site = f"http://localhost:{machine.port}"
    wait_until(
        lambda: machine.is_healthy("pgflow", "pgflow-1"),
        "it is healthy",
        seconds=PATIENCE,
    )
    wait_until(lambda: asked(f"{site}/health") == (200, "ok"), "the admin API answers")
    assert asked(f"{site}/metrics")[0] == 401
    assert asked(f"{site}/metrics", "a-token-of-the-env-file")[0] == 200


def test_the_admin_api_can_be_left_out(machine: Machine, wait_until: Wait) -> None:
    machine.start("pgflow", "pgflow-1", {"PGFLOW_ADMIN_ADDR": "off"})
    wait_until(
        lambda: machine.is_healthy("pgflow", "pgflow-1"),
        "it is healthy",
        seconds=PATIENCE,
    )
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", machine.port), timeout=5)
