"""What probes and lists say of a worker that has lost its database, has been killed, or
loads for ever; and what a handler does to the user of its process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.support.jobs import attempts_of, plant, status_of
from tests.support.private_servers import private_server

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]

READY = ("health", "--worker", "--ready")
SPINS = """
from pathlib import Path

Path("imports").touch()
while True:
    pass
"""
CHANGES = """
import ctypes
import os
import time
from pathlib import Path

from pgflow_cli import App

app = App()


@app.handler("changes")
def changes(job):
    ctypes.CDLL(None).setuid(65534)
    time.sleep(600)


@app.handler("changes_and_fails")
def changes_and_fails(job):
    ctypes.CDLL(None).setgid(65534)
    raise ValueError("a job that began now would do so, too")


@app.handler("user")
def user(job):
    if os.getuid():
        raise ValueError("it is another user's process")
"""


def test_a_worker_whose_last_heartbeat_was_not_answered_is_not_ready(
    pgflow: RunsPgflow, start_worker: Start, wait_until: Wait
) -> None:
    """At once: long before it has not been answered for `--max-age`."""
    with private_server() as server:
        worker = start_worker(url=server.migrated())
        wait_until(lambda: pgflow(*READY).returncode == 0, "it is ready")
        server.kill()
        patient = (*READY, "--max-age", "1d")
        wait_until(
            lambda: "the database has not answered" in pgflow(*patient).stderr,
            "it is told of",
        )
        assert pgflow(*patient).returncode == 5
        assert pgflow("health", "--worker").returncode == 0, "its loops turn"
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="where /proc tells it")
def test_a_worker_that_was_killed_is_gone_at_once(
    pgflow: RunsPgflow, start_worker: Start, wait_until: Wait
) -> None:
    worker = start_worker("--worker-id", "w")
    wait_until(lambda: pgflow(*READY).returncode == 0, "it is ready")
    worker.process.kill()
    worker.process.wait()
    gone = f"w (process {worker.pid}) is gone"
    done = pgflow("health", "--worker", "--max-age", "1d")
    assert (done.returncode, gone in done.stderr) == (5, True)
    start_worker("--worker-id", "other")
    wait_until(lambda: pgflow(*READY).returncode == 0, "another one is ready")
    done = pgflow(*READY)
    assert (done.returncode, f"other: ok; {gone}" in done.stderr) == (0, True)
    assert pgflow("health", "--worker=w").returncode == 5


def test_a_worker_whose_import_does_not_end_is_listed_and_ends_at_once(
    connection: Connection,
    pgflow: RunsPgflow,
    start_worker: Start,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    (tmp_path / "spins.py").write_text(SPINS)
    [job] = plant(connection)
    worker = start_worker("--app", str(tmp_path / "spins.py"), app=False)
    wait_until((tmp_path / "imports").exists, "it imports")
    wait_until(
        lambda: "starting" in pgflow("workers", "list").stdout.split(), "it is listed"
    )
    assert "is starting" in pgflow("explain", job).stdout
    told = pgflow("metrics", "--prom").stdout
    assert 'pgflow_worker_processes{state="starting"} 1.0' in told
    asked = time.monotonic()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert time.monotonic() - asked < 30, "not only once --shutdown-timeout is over"
    assert connection.execute("select from pgflow.workers").fetchall() == []


@pytest.mark.skipif(not hasattr(os, "getresuid"), reason="there are no such users")
@pytest.mark.skipif(hasattr(os, "getuid") and os.getuid() != 0, reason="root alone can")
@pytest.mark.parametrize("job_type", ["changes", "changes_and_fails"])
def test_what_runs_in_a_process_whose_user_is_changed_in_c_is_lost_with_it(
    connection: Connection,
    start_worker: Start,
    wait_until: Wait,
    tmp_path: Path,
    job_type: str,
) -> None:
    """Lost, not failed: which job has done it is not known."""
    (tmp_path / "shop.py").write_text(CHANGES)
    tmp_path.chmod(0o755)
    [culprit] = plant(connection, job_type=job_type, max_attempts=1)
    options = ("--app", str(tmp_path / "shop.py"), "--crash-budget", "1")
    worker = start_worker(*options, app=False)
    wait_until(lambda: status_of(connection, culprit) == "dlq", "it is lost")
    assert attempts_of(connection, culprit) == [(1, "lost", "WORKER_LOST")]
    jobs = plant(connection, 5, job_type="user", max_attempts=1)
    wait_until(
        lambda: all(status_of(connection, job) == "succeeded" for job in jobs),
        "the others run as who they were",
    )
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
