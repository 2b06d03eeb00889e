"""`pgflow health`: a worker by its file, a database by asking, a server by its URL."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.support.jobs import plant

Start = Callable[..., Worker]
Wait = Callable[..., Any]


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A server that is well at /health and nowhere else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_worker_is_well_while_its_loops_turn(
    pgflow: RunsPgflow, start_worker: Start, wait_until: Wait, tmp_path: Path
) -> None:
    assert pgflow("health", "--worker").returncode == 5
    worker = start_worker("--worker-id", "worker-1")
    wait_until(
        lambda: pgflow("health", "--worker", "--ready").returncode == 0, "it is well"
    )
    assert "worker-1: ok" in pgflow("health", "--worker=worker-1").stderr
    assert pgflow("health", "--worker=other").returncode == 5
    worker.send(signal.SIGSTOP)
    wait_until(
        lambda: pgflow("health", "--worker", "--max-age", "1s").returncode == 5,
        "a stopped one is not",
    )
    worker.send(signal.SIGCONT)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert list((tmp_path / "state").rglob("*.json")) == []


def test_a_worker_that_leases_nothing_though_jobs_wait_is_not_ready(
    pgflow: RunsPgflow, connection: Any, start_worker: Start, wait_until: Wait
) -> None:
    """Its loops turn, and its heartbeats are answered."""
    connection.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'no leases today'; end $$"
    )
    connection.execute(
        "create trigger refuse before insert on pgflow.leases"
        " for each row execute function refuse()"
    )
    [job] = plant(connection, job_type="ok")
    start_worker("--simulate", "--worker-id", "w", "--lease-seconds", "1", app=False)
    probe = ("health", "--worker", "--ready")
    wait_until(lambda: "w has leased nothing" in pgflow(*probe).stderr, "it is told of")
    assert pgflow(*probe).returncode == 5
    assert "WORKERS_STALLED" in pgflow("explain", job).stdout
    assert "stalled" in pgflow("workers", "list").stdout
    found = pgflow("doctor", "--check", "stalled-workers")
    assert (found.returncode, "w is stalled" in found.stdout) == (5, True)
    connection.execute("drop trigger refuse on pgflow.leases")
    wait_until(lambda: pgflow(*probe).returncode == 0, "it leases again, and is well")


def test_the_database_is_ready_when_its_schema_is(
    pgflow: RunsPgflow, connection: Any
) -> None:
    assert pgflow("health", "--ready").returncode == 0
    nobody = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}
    assert pgflow("health", "--ready", env=nobody).returncode == 69
    connection.execute("delete from pgflow.migrations where version > 1")
    assert pgflow("health", "--ready").returncode == 78


def test_a_server_is_asked_by_its_url(pgflow: RunsPgflow, endpoint: str) -> None:
    assert pgflow("health", "--url", f"{endpoint}/health").returncode == 0
    assert pgflow("health", "--url", f"{endpoint}/else").returncode == 5
    assert pgflow("health", "--url", "http://127.0.0.1:1/health").returncode == 69
    assert pgflow("health", "--url", "file:///etc/passwd").returncode == 2
    assert pgflow("health", "--url", endpoint, "--ready").returncode == 2
