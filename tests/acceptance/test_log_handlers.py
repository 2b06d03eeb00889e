"""What an application adds to `logging` stops no job of another one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.support.jobs import attempts_of, plant, status_of
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]

APP = """
import logging
import time
from pathlib import Path

from pgflow_cli import App

app = App()


class Hang(logging.Handler):
    def emit(self, record):
        Path("hangs").touch()
        time.sleep(1e5)


class Slow(logging.Formatter):
    def format(self, record):
        time.sleep(1e5)


class Shy:
    def __str__(self):
        Path("hangs").touch()
        time.sleep(1e5)


class Keep(logging.Handler):
    def emit(self, record):
        job_id = getattr(record, "job_id", None)
        if record.name.startswith("pgflow") and job_id:
            with open("kept", "a") as kept:
                kept.write(f"{job_id} {record.event}\\n")


@app.handler("handler")
def handler(job):
    logging.getLogger().addHandler(Hang())


@app.handler("filter")
def filter_(job):
    for name in ("pgflow.worker", "pgflow.jobs"):
        logging.getLogger(name).addFilter(lambda record: time.sleep(1e5))


@app.handler("formatter")
def formatter(job):
    logging.getLogger().handlers[0].setFormatter(Slow())


@app.handler("factory")
def factory(job):
    logging.setLogRecordFactory(lambda *a, **k: time.sleep(1e5))


@app.handler("argument", timeout=1)
def argument(job):
    logging.getLogger("shop").warning("%s", Shy())


@app.handler("keep")
def keep(job):
    logging.getLogger().addHandler(Keep())


@app.handler("stops")
def stops(job):
    from pgflow_cli.worker.leasing.loop import LeaseLoop

    LeaseLoop._turn = lambda loop, runs: time.sleep(1e5)


@app.handler("quick")
def quick(job):
    pass


@app.handler("fails")
def fails(job):
    raise ValueError("no such thing")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "shop.py"
    path.write_text(APP)
    return path


def settled(connection: Connection, *jobs: str) -> Callable[[], bool]:
    return lambda: all(status_of(connection, j) in ("succeeded", "dlq") for j in jobs)


@pytest.mark.parametrize("kind", ["handler", "filter", "formatter", "factory"])
def test_what_blocks_every_line_of_the_log_stops_no_queue(
    connection: Connection, start_worker: Start, wait_until: Wait, app: Path, kind: str
) -> None:
    """Not even once more lines wait for it than are kept."""
    [culprit] = plant(connection, job_type=kind)
    options = ("--app", str(app), "-q", "default,other", "--no-maintain", "--log-jobs")
    worker = start_worker(*options, "--max-jobs", "1102", app=False)
    wait_until(settled(connection, culprit), "the log is blocked")
    if kind != "factory":  # which the line of a failure is made by, as any of a handler
        [failing] = plant(connection, job_type="fails", max_attempts=1)
        wait_until(settled(connection, failing), "a job that fails is settled")
        assert attempts_of(connection, failing) == [(1, "failed", "UNKNOWN")]
    quick = plant(connection, 1100, job_type="quick", queue="other")
    wait_until(settled(connection, *quick), "the other queue goes on")
    assert attempts_of(connection, quick[-1]) == [(1, "succeeded", None)]
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_text_that_never_comes_keeps_no_other_line_back(
    connection: Connection, start_worker: Start, wait_until: Wait, app: Path
) -> None:
    [culprit] = plant(connection, job_type="argument", max_attempts=1)
    worker = start_worker("--app", str(app), "--log-jobs", app=False)
    wait_until((app.parent / "hangs").exists, "it holds up its own line")
    [quick] = plant(connection, job_type="quick")
    wait_until(settled(connection, culprit, quick), "both are settled")
    assert attempts_of(connection, culprit) == [(1, "failed", "TIMEOUT")]
    assert attempts_of(connection, quick) == [(1, "succeeded", None)]
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_log_handler_of_the_application_gets_every_line_in_turn(
    connection: Connection, start_worker: Start, app: Path
) -> None:
    [keeps] = plant(connection, job_type="keep", priority=1)
    jobs = plant(connection, 30, job_type="fails", max_attempts=1)
    worker = start_worker(
        *("--app", str(app), "--log-jobs", "--drain", "--concurrency", "1"), app=False
    )
    assert worker.wait() == 0
    kept = [
        tuple(line.split()) for line in (app.parent / "kept").read_text().splitlines()
    ]
    for event in ("handler_error", "job_dlq"):
        assert [job for job, kind in kept if kind == event] == jobs
    assert (keeps, "job_succeeded") in kept


def test_a_process_whose_connections_make_no_progress_is_replaced(
    database: Database, connection: Connection, wait_until: Wait, app: Path
) -> None:
    """Whatever holds them up. The bound is the supervisor's own: here, it is short."""
    log = app.parent / "worker.log"
    code = (
        "from pgflow_cli.worker import process; process.STILL = 2.0;"
        "from pgflow_cli.__main__ import main; main()"
    )
    options = ("--lease-seconds", "4", "--connect-timeout", "1s", "--no-maintain")
    options += ("--crash-budget", "1")
    [culprit] = plant(connection, job_type="stops")
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "work", "--app", str(app), *options],
            env={**os.environ, "DATABASE_URL": database.url},
            cwd=app.parent,
            stderr=output,
        )
    try:
        wait_until(
            lambda: status_of(connection, culprit) == "dlq",
            "it has cost its process, and its crash budget",
        )
        [quick] = plant(connection, job_type="quick")
        wait_until(settled(connection, quick), "the queue goes on")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        print(log.read_text())
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events.count("process_killed") == 1
    assert attempts_of(connection, culprit) == [(1, "lost", "WORKER_LOST")]
