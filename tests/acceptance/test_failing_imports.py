"""Handlers that can be loaded no more: a worker that has worked goes on with what it
has, and tries again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.support.jobs import attempts_of, plant, status_of

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]

APP = """
import os
import time
from pathlib import Path

from pgflow_cli import App

if Path("broken").exists():
    raise ImportError("the release is half there")
app = App()


@app.handler("breaks")
def breaks(job):
    if not Path("has-broken").exists():
        Path("has-broken").touch()
        Path("broken").touch()
        os._exit(1)


@app.handler("waits", timeout=3600)
def waits(job):
    Path("waits").touch()
    while not Path("gate").exists():
        time.sleep(0.01)


@app.handler("quick")
def quick(job):
    pass
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "shop.py"
    path.write_text(APP)
    return path


def test_handlers_that_load_no_more_end_no_process_that_has_them(
    connection: Connection,
    pgflow: RunsPgflow,
    start_worker: Start,
    wait_until: Wait,
    app: Path,
) -> None:
    [waits] = plant(connection, job_type="waits", max_attempts=1)
    options = ("--app", str(app), "--processes", "2", "-c", "1", "--worker-id", "w")
    worker = start_worker(*options, app=False)
    wait_until((app.parent / "waits").exists, "one process is busy")
    plant(connection, job_type="breaks")
    said = "cannot load the handlers: "
    wait_until(lambda: said in worker.log, "another process cannot load them")
    assert status_of(connection, waits) == "running"
    assert worker.process.poll() is None
    probe = ("health", "--worker", "--ready")
    wait_until(
        lambda: "1 of 2 processes restarting" in pgflow(*probe).stderr, "it is told of"
    )
    assert pgflow(*probe).returncode == 0
    assert "restarting" in pgflow("workers", "list").stdout
    (app.parent / "gate").touch()
    (app.parent / "broken").unlink()
    wait_until(lambda: len(worker.children()) >= 2, "another process starts")
    [quick] = plant(connection, job_type="quick")
    wait_until(lambda: status_of(connection, quick) == "succeeded", "it works on")
    assert attempts_of(connection, waits) == [(1, "succeeded", None)]
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert "ended before it was ready" not in worker.log, "its reason is told"


@pytest.mark.parametrize("limit", ["--drain", "--once"])
def test_what_ends_by_itself_ends_if_its_handlers_load_no_more(
    connection: Connection, start_worker: Start, app: Path, limit: str
) -> None:
    plant(connection, job_type="breaks")
    worker = start_worker("--app", str(app), limit, app=False)
    assert worker.wait() == 78
    assert "the release is half there" in worker.log


def test_a_drain_goes_on_with_the_processes_that_have_their_handlers(
    connection: Connection, start_worker: Start, wait_until: Wait, app: Path
) -> None:
    [waits] = plant(connection, job_type="waits", max_attempts=1)
    options = ("--app", str(app), "--processes", "2", "-c", "1", "--drain")
    worker = start_worker(*options, app=False)
    wait_until((app.parent / "waits").exists, "one process is busy")
    [breaks] = plant(connection, job_type="breaks")
    said = "cannot load the handlers: "
    wait_until(lambda: worker.log.count(said) >= 2, "it tries, and tries again")
    assert "SIGTERM" not in worker.log
    assert worker.process.poll() is None
    (app.parent / "broken").unlink()
    wait_until(lambda: status_of(connection, breaks) == "succeeded", "another works")
    (app.parent / "gate").touch()
    assert worker.wait() == 0
    assert attempts_of(connection, waits) == [(1, "succeeded", None)]


def test_handlers_that_have_never_loaded_end_it_at_once(
    start_worker: Start, app: Path
) -> None:
    (app.parent / "broken").touch()
    worker = start_worker("--app", str(app), "--processes", "2", app=False)
    assert worker.wait() == 78
