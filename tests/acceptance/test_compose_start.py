"""`docker compose up` on a machine with nothing configured, without the containers: the
commands of compose.yaml with exactly its variables, on a database that is empty.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.deployment import compose, environment_of
from tests.jobs import status_of
from tests.servers import Database

Wait = Callable[..., Any]
PGFLOW = str(Path(sys.executable).with_name("pgflow"))
# Services of Compose, not of the host: what is put in their place here.
ELSEWHERE = ("DATABASE_URL", "PGPASSWORD", "PGFLOW_ADMIN_ADDR")


class Machine:
    """Runs services of compose.yaml; a container is a folder that nobody else sees."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        self.port = free_port()
        self._running: list[subprocess.Popen[bytes]] = []

    def environment(
        self, service: str, name: str, given: Mapping[str, str]
    ) -> dict[str, str]:
        """Return what a container sees: its service's variables and nothing of ours."""
        written = environment_of(service, given)
        home = self.folder / name
        home.mkdir(exist_ok=True)
        own = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            # The root is read-only, /tmp is not.
            "HOME": "/nonexistent",
            "TMPDIR": str(home),
            "DATABASE_URL": self.database.url,
        }
        if "PGFLOW_ADMIN_ADDR" in written:
            address = written["PGFLOW_ADMIN_ADDR"]
            own["PGFLOW_ADMIN_ADDR"] = address.replace(":3003", f":{self.port}")
        return {**{n: v for n, v in written.items() if n not in ELSEWHERE}, **own}

    def run(self, service: str, name: str, *words: str) -> int:
        """Run a command in a running container, as its health check is."""
        return subprocess.run(
            [PGFLOW, *words],
            env=self.environment(service, name, {}),
            cwd=self.folder / name,
            capture_output=True,
            check=False,
        ).returncode

    def start(
        self, service: str, name: str, given: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        environment = self.environment(service, name, given or {})
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                [PGFLOW, *compose()["services"][service]["command"]],
                env=environment,
                cwd=self.folder / name,
                stdout=log,
                stderr=log,
            )
        self._running.append(process)
        return process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def is_healthy(self, service: str, name: str) -> bool:
        """Ask what Compose would ask."""
        check = compose()["services"][service]["healthcheck"]["test"]
        assert check[:2] == ["CMD", "pgflow"]
        return self.run(service, name, *check[2:]) == 0

    def stop(self) -> list[int]:
        """End all as `docker compose down` does; return how they ended."""
        for process in self._running:
            process.terminate()
        ends = [process.wait(60) for process in self._running]
        self._running.clear()
        return ends


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def machine(tmp_path: Path, empty_database: Database) -> Iterator[Machine]:
    made = Machine(tmp_path, empty_database)
    yield made
    made.stop()


def asked(url: str, token: str | None = None) -> tuple[int, str]:
    """Return status and body, as curl and Invoke-WebRequest see them."""
    request = urllib.request.Request(url)
    if token:
        request.add_header("x-api-key", token)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except urllib.error.URLError as error:
        return 0, str(error.reason)


def test_an_empty_machine_gets_a_worker_that_works_and_an_admin_that_answers(
    machine: Machine, wait_until: Wait
) -> None:
    machine.start("pgflow", "pgflow-1")
    wait_until(lambda: machine.is_healthy("pgflow", "pgflow-1"), "it is healthy")
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


def test_four_workers_are_four(
    machine: Machine, wait_until: Wait, connection: psycopg.Connection[Any]
) -> None:
    machine.database = Database(connection.info.dsn, connection.info.dbname)
    names = [f"worker-{number}" for number in range(1, 5)]
    for name in names:
        machine.start("worker", name)
    wait_until(lambda: len(workers(connection)) == 4, "four are there")
    assert len(set(workers(connection))) == 4
    for name in names:
        wait_until(lambda n=name: machine.is_healthy("worker", n), "it is healthy")
        assert "listens on" not in machine.log(name).read_text()
    assert machine.stop() == [0, 0, 0, 0]


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
    wait_until(lambda: machine.is_healthy("pgflow", "pgflow-1"), "it is healthy")
    wait_until(lambda: asked(f"{site}/health") == (200, "ok"), "the admin API answers")
    assert asked(f"{site}/metrics")[0] == 401
    assert asked(f"{site}/metrics", "a-token-of-the-env-file")[0] == 200


@pytest.mark.parametrize("off", ["off", "false"])
def test_the_admin_api_can_be_left_out(
    machine: Machine, wait_until: Wait, off: str
) -> None:
    machine.start("pgflow", "pgflow-1", {"PGFLOW_ADMIN_ADDR": off})
    wait_until(lambda: machine.is_healthy("pgflow", "pgflow-1"), "it is healthy")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", machine.port), timeout=5)
