"""What operators order reaches the processes that run the jobs, within a heartbeat."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.jobs import attempts_of, plant, status_of

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]


@pytest.mark.parametrize("job_type", ["patient", "gated_async"])
def test_a_killed_job_is_told_and_frees_its_slot(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    pgflow: RunsPgflow,
    tmp_path: Path,
    job_type: str,
) -> None:
    payload = json.dumps({"gate": str(tmp_path / "never")})
    [job] = plant(connection, job_type=job_type, payload=payload)
    worker = start_worker("--concurrency", "1", "--heartbeat", "200ms")
    wait_until(lambda: witness(job), "it starts")
    [next_one] = plant(connection, job_type="quick")
    done = pgflow("jobs", "cancel", job, "--kill")
    assert done.returncode == 0, done.stderr
    assert status_of(connection, job) == "canceled"
    wait_until(
        lambda: status_of(connection, next_one) == "succeeded", "the slot is free"
    )
    if job_type == "patient":
        assert ("canceled", 1) in witness(job)
    assert ("end", 1) not in witness(job)
    assert attempts_of(connection, job) == [(1, "canceled", None)]
    assert "attempt 1 canceled" in worker.log
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_killed_program_gets_term(
    connection: Connection,
    start_worker: Start,
    wait_until: Wait,
    pgflow: RunsPgflow,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "handlers"
    folder.mkdir()
    program = folder / "report_build"
    program.write_text(
        "#!/bin/sh\n"
        f"trap 'touch {tmp_path}/told; exit 0' TERM\n"
        f"touch {tmp_path}/begun\n"
        "while :; do sleep 0.05; done\n"
    )
    program.chmod(0o755)
    [job] = plant(connection, job_type="report_build")
    worker = start_worker(
        "--handlers-dir", str(folder), "--heartbeat", "200ms", app=False
    )
    wait_until((tmp_path / "begun").exists, "it begins")
    assert pgflow("jobs", "cancel", job, "--kill").returncode == 0
    wait_until((tmp_path / "told").exists, "it is told")
    wait_until(lambda: "attempt 1 canceled" in worker.log, "its end is noted")
    assert attempts_of(connection, job) == [(1, "canceled", None)]


def test_a_success_that_races_a_kill_has_one_winner(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    pgflow: RunsPgflow,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    payload = json.dumps({"gate": str(gate)})
    jobs = plant(connection, 40, job_type="gated", payload=payload)
    start_worker("--concurrency", "40", "--heartbeat", "100ms")
    wait_until(lambda: all(witness(job) for job in jobs), "all of them run")
    gate.touch()
    done = pgflow("jobs", "cancel", *jobs, "--kill", "--yes", "--batch-size", "1")
    assert done.returncode in (0, 1), done.stderr
    wait_until(
        lambda: all(status_of(connection, job) != "running" for job in jobs),
        "all of them end",
    )
    for job in jobs:
        [(number, status, _)] = attempts_of(connection, job)
        assert number == 1
        assert (status, status_of(connection, job)) in (
            ("succeeded", "succeeded"),
            ("canceled", "canceled"),
        )


def test_a_worker_told_to_be_quiet_runs_on_and_leases_nothing(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    pgflow: RunsPgflow,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    payload = json.dumps({"gate": str(gate)})
    [running] = plant(connection, job_type="gated", payload=payload)
    worker = start_worker("--heartbeat", "100ms", "--worker-id", "w7")
    wait_until(lambda: witness(running), "it starts")
    assert pgflow("workers", "quiet", "w7").returncode == 0
    wait_until(lambda: "told to lease no more" in worker.log, "it hears it")
    [late] = plant(connection, job_type="quick")
    gate.touch()
    wait_until(lambda: status_of(connection, running) == "succeeded", "it runs on")
    [process] = worker.children()
    process.kill()
    wait_until(
        lambda: [c.pid for c in worker.children()] not in ([], [process.pid]),
        "another process takes its place",
    )
    wait_until(
        lambda: connection.execute(
            "select 1 from pgflow.workers where quiet and pid <> %s", (process.pid,)
        ).fetchone(),
        "which is quiet, too",
    )
    assert status_of(connection, late) == "queued"
