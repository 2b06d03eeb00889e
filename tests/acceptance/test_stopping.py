"""How a worker stops: it leases no more, lets what runs end, gives back the rest."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.acceptance.forked import Started
from tests.support.jobs import attempts_of, plant, status_of

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]


def count(connection: Connection, table: str) -> int:
    row = connection.execute(f"select count(*) from pgflow.{table}").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_running_jobs_end_and_gives_back_the_rest(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
    number: int,
) -> None:
    gate = tmp_path / "gate"
    jobs = plant(connection, 6, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    worker = start_worker("--concurrency", "2")
    wait_until(lambda: sum(bool(witness(j)) for j in jobs) == 2, "two jobs start")
    for process in (worker, *worker.children()):  # as a terminal does, to all of them
        os.kill(process.pid, number)
    wait_until(lambda: count(connection, "pending") == 4, "the others are given back")
    gate.touch()
    assert worker.wait() == 0
    states = sorted(status_of(connection, j) for j in jobs)
    assert states == ["queued"] * 4 + ["succeeded"] * 2
    assert count(connection, "leases") == 0
    assert count(connection, "workers") == 0


def test_a_hangup_that_is_ignored_as_under_nohup_ends_nothing(
    connection: Connection, start_worker: Start, witness: Witness, wait_until: Wait
) -> None:
    """Neither the worker nor its companions, nor what a handler starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        worker = start_worker("--probe", "127.0.0.1:0", "--no-maintain", how=Started)
    finally:
        signal.signal(signal.SIGHUP, before)
    [first] = plant(connection, job_type="seen")
    wait_until(lambda: status_of(connection, first) == "succeeded", "it works")
    for process in (worker, *worker.children()):
        os.kill(process.pid, signal.SIGHUP)
    [job] = plant(connection, job_type="starts_a_program_that_hangs_up")
    wait_until(lambda: status_of(connection, job) == "succeeded", "it goes on")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert "SIGHUP" not in worker.log
    assert "event=process_died" not in worker.log
    assert "event=companion_died" not in worker.log


def test_a_second_signal_releases_what_runs_without_charging_it(
    connection: Connection, start_worker: Start, witness: Witness, wait_until: Wait
) -> None:
    [job] = plant(connection, job_type="patient")
    worker = start_worker()
    wait_until(lambda: witness(job), "it starts")
    worker.send(signal.SIGTERM)
    wait_until(lambda: "leasing no more" in worker.log, "the first signal is heard")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert attempts_of(connection, job) == [(1, "released", None)]
    assert status_of(connection, job) == "queued"


def test_what_outlives_the_shutdown_timeout_is_released(
    connection: Connection, start_worker: Start, witness: Witness, wait_until: Wait
) -> None:
    [job] = plant(connection, job_type="patient")
    worker = start_worker("--shutdown-timeout", "200ms")
    wait_until(lambda: witness(job), "it starts")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert attempts_of(connection, job) == [(1, "released", None)]


def test_a_quiet_worker_runs_on_and_leases_nothing(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    [running] = plant(connection, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    worker = start_worker("--heartbeat", "100ms")
    wait_until(lambda: witness(running), "it starts")
    worker.send(signal.SIGUSR1)
    wait_until(
        lambda: connection.execute(
            "select 1 from pgflow.workers where quiet"
        ).fetchone(),
        "it says that it is quiet",
    )
    [late] = plant(connection, job_type="quick")
    gate.touch()
    wait_until(lambda: status_of(connection, running) == "succeeded", "it runs on")
    assert status_of(connection, late) == "queued"


def test_a_dump_of_all_stacks_is_written_on_request(
    connection: Connection, start_worker: Start, witness: Witness, wait_until: Wait
) -> None:
    [job] = plant(connection, job_type="patient")
    worker = start_worker()
    wait_until(lambda: witness(job), "it starts")
    worker.send(signal.SIGUSR2)
    wait_until(lambda: "in patient" in worker.log, "the handler's frame is shown")
    assert worker.process.poll() is None


def test_drain_ends_when_nothing_is_runnable(
    connection: Connection, start_worker: Start
) -> None:
    plant(connection, 700, job_type="quick")
    [future] = plant(connection, job_type="quick", due_in="1 hour")
    assert start_worker("--drain", "--processes", "2").wait() == 0
    assert count(connection, "any_attempts where status = 'succeeded'") == 700
    assert status_of(connection, future) == "scheduled"


@pytest.mark.parametrize("mode", ["--drain", "--once"])
@pytest.mark.parametrize("unknown", ["leave", "dlq"])
def test_what_ends_by_itself_does_so_without_any_handler(
    connection: Connection, start_worker: Start, mode: str, unknown: str
) -> None:
    [job] = plant(connection, job_type="quick")
    worker = start_worker(mode, "--on-unknown", unknown, app=False)
    assert worker.wait() == 0
    assert "no handlers: nothing will be leased" in worker.log
    assert "jobs are due that no handler of this worker runs" in worker.log
    assert status_of(connection, job) == "queued"


@pytest.mark.parametrize("mode", ["--drain", "--once"])
def test_what_ends_by_itself_tells_of_due_jobs_that_none_of_its_handlers_runs(
    connection: Connection, start_worker: Start, mode: str
) -> None:
    told = "jobs are due that no handler of this worker runs"
    [job] = plant(connection, job_type="quick")
    worker = start_worker(mode)
    assert worker.wait() == 0
    assert told not in worker.log
    [other] = plant(connection, job_type="of_another_worker")
    worker = start_worker(mode)
    assert worker.wait() == 0
    assert told in worker.log
    assert (status_of(connection, job), status_of(connection, other)) == (
        "succeeded",
        "queued",
    )


def test_once_runs_one_batch(connection: Connection, start_worker: Start) -> None:
    plant(connection, 10, job_type="quick")
    worker = start_worker("--once", "--batch-size", "4")
    assert worker.wait() == 0
    assert count(connection, "any_attempts") == 4


def test_once_gives_nothing_of_its_batch_back(
    connection: Connection, start_worker: Start
) -> None:
    """The second job waits for longer than a worker lets one wait that may be run
    elsewhere.
    """
    plant(connection, 2, job_type="naps", payload='{"seconds": 1.5}')
    assert start_worker("--once", "-c", "1").wait(150) == 0
    ended = connection.execute("select status from pgflow.any_attempts").fetchall()
    assert ended == [("succeeded",)] * 2


def test_once_on_an_empty_queue_ends_too(start_worker: Start) -> None:
    assert start_worker("--once").wait() == 0


def test_no_more_than_max_jobs_are_run_by_all_processes_together(
    connection: Connection, start_worker: Start
) -> None:
    plant(connection, 3000, job_type="quick")
    worker = start_worker("--max-jobs", "2900", "--processes", "2")
    assert worker.wait() == 0
    assert count(connection, "any_attempts") == 2900
    assert count(connection, "pending") == 100


def test_an_idle_worker_ends_after_its_idle_timeout(start_worker: Start) -> None:
    assert start_worker("--idle-timeout", "200ms").wait() == 0


def test_a_worker_ends_after_its_runtime(start_worker: Start) -> None:
    assert start_worker("--max-runtime", "1s").wait() == 0


@pytest.mark.parametrize("mode", ["--drain", "--once"])
def test_time_that_runs_out_before_the_queue_is_drained_is_no_success(
    connection: Connection,
    start_worker: Start,
    witness: Witness,  # the job writes into its table
    tmp_path: Path,
    mode: str,
) -> None:
    [job] = plant(
        connection, job_type="gated", payload=f'{{"gate": "{tmp_path / "never"}"}}'
    )
    worker = start_worker(mode, "--max-runtime", "1s", "--shutdown-timeout", "0s")
    assert worker.wait() == 75
    assert "--max-runtime is over" in worker.log
    assert status_of(connection, job) == "queued"
