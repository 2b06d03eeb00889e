"""What operators order reaches the processes that run the jobs, within a heartbeat."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.acceptance.conftest import Worker
from tests.acceptance.test_suspects import lose
from tests.conftest import RunsPgflow
from tests.support.jobs import attempts_of, plant, status_of, statuses_of

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]


def test_a_killed_job_is_told_and_frees_its_slot(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    pgflow: RunsPgflow,
    tmp_path: Path,
) -> None:
    payload = json.dumps({"gate": str(tmp_path / "never")})
    worker = start_worker("--concurrency", "1", "--heartbeat", "200ms")
    for number, job_type in enumerate(("patient", "gated_async"), start=1):
        [job] = plant(connection, job_type=job_type, payload=payload)
        wait_until(lambda job=job: witness(job), "it starts")
        [next_one] = plant(connection, job_type="quick")
        done = pgflow("jobs", "cancel", job, "--kill")
        assert done.returncode == 0, done.stderr
        assert status_of(connection, job) == "canceled"
        wait_until(
            lambda job=next_one: status_of(connection, job) == "succeeded",
            "the slot is free",
        )
        assert (("canceled", 1) in witness(job)) == (job_type == "patient")
        assert ("end", 1) not in witness(job)
        assert attempts_of(connection, job) == [(1, "canceled", None)]
        assert worker.log.count("attempt 1 canceled") == number
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
    jobs = plant(connection, 20, job_type="gated", payload=payload)
    start_worker("--concurrency", "20", "--heartbeat", "100ms")
    wait_until(lambda: all(witness(job) for job in jobs), "all of them run")
    gate.touch()
    done = pgflow("jobs", "cancel", *jobs, "--kill", "--yes", "--batch-size", "1")
    assert done.returncode in (0, 1), done.stderr
    wait_until(
        lambda: "running" not in statuses_of(connection, jobs),
        "all of them end",
    )
    for job in jobs:
        [(number, status, _)] = attempts_of(connection, job)
        assert number == 1
        assert (status, status_of(connection, job)) in (
            ("succeeded", "succeeded"),
            ("canceled", "canceled"),
        )


def test_a_thread_that_ignores_its_cancellation_costs_its_process_not_its_neighbours(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    pgflow: RunsPgflow,
    tmp_path: Path,
) -> None:
    """It cannot be killed: its process leases nothing more, lets its neighbours end,
    and goes. What replaces it has all its slots.
    """
    gate = tmp_path / "gate"
    payload = json.dumps({"gate": str(tmp_path / "never")})
    [deaf] = plant(connection, job_type="gated", payload=payload)
    payload = json.dumps({"gate": str(gate)})
    [neighbour] = plant(connection, job_type="gated", payload=payload)
    worker = start_worker("-c", "2", "--heartbeat", "200ms", "--worker-id", "w7")
    wait_until(lambda: witness(deaf) and witness(neighbour), "both run")
    [process] = worker.children()
    assert pgflow("jobs", "cancel", deaf, "--kill").returncode == 0
    retiring = "select pid from pgflow.workers where retiring"
    wait_until(
        lambda: connection.execute(retiring).fetchone() == (process.pid,),
        "its process retires",
    )
    jobs = plant(connection, 2, job_type="seen")
    wait_until(
        lambda: statuses_of(connection, jobs) == {"succeeded"},
        "the one that replaces it leases",
    )
    assert status_of(connection, neighbour) == "running"
    assert process.is_running()
    gate.touch()
    wait_until(lambda: status_of(connection, neighbour) == "succeeded", "it ends")
    wait_until(lambda: process.pid not in pids_of(worker), "and so does its process")
    assert attempts_of(connection, deaf) == [(1, "canceled", None)]


def pids_of(worker: Worker) -> list[int]:
    return [child.pid for child in worker.children()]


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
    wait_until(lambda: "told to lease nothing" in worker.log, "it hears it")
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
    assert pgflow("workers", "resume", "w7").returncode == 0
    wait_until(lambda: status_of(connection, late) == "succeeded", "it leases again")
    assert not connection.execute("select 1 from pgflow.workers where quiet").fetchone()


def test_a_signal_that_makes_a_worker_quiet_is_undone_by_the_command(
    connection: Connection,
    start_worker: Start,
    wait_until: Wait,
    pgflow: RunsPgflow,
) -> None:
    """What replaces a process is quiet as well, until an operator resumes it."""
    worker = start_worker("--heartbeat", "100ms", "--worker-id", "w7")
    quiet = "select pid from pgflow.workers where quiet"
    known = "select 1 from pgflow.workers"
    wait_until(lambda: connection.execute(known).fetchone(), "it is known")
    worker.send(signal.SIGUSR1)
    [first] = wait_until(lambda: connection.execute(quiet).fetchone(), "it is quiet")
    psutil.Process(first).kill()
    wait_until(
        lambda: connection.execute(quiet).fetchone() not in (None, (first,)),
        "so is its replacement",
    )
    [job] = plant(connection, job_type="quick")
    assert pgflow("workers", "resume", "w7", "--note", "over").returncode == 0
    wait_until(lambda: status_of(connection, job) == "succeeded", "it leases again")


def test_a_killed_job_that_holds_the_interpreter_ends_with_its_process(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    pgflow: RunsPgflow,
    tmp_path: Path,
) -> None:
    """Its process cannot hear of it. Neighbours are given back, uncharged, or go on
    where it ran apart, in the spare process.
    """
    gate = tmp_path / "gate"
    [neighbour] = plant(
        connection, job_type="gated", payload=json.dumps({"gate": str(gate)})
    )
    worker = start_worker("-c", "2", "--heartbeat", "200ms", "--worker-id", "w")
    for held, starts in (("w.spare", 1), ("w", 2)):
        # First: once the other holds the interpreter, this one could not say so.
        wait_until(lambda: witness(neighbour), "the neighbour runs")
        with connection.transaction():
            payload = json.dumps({"length": 60})
            kind = "holds_the_interpreter"
            [deaf] = plant(connection, job_type=kind, payload=payload)
            if held == "w.spare":
                lose(connection, deaf)
        wait_until(lambda d=deaf: witness(d), "the other one holds the interpreter")
        assert pgflow("jobs", "cancel", deaf, "--kill").returncode == 0
        said = f"a handler holds up {held} though its job was canceled"
        wait_until(lambda s=said: s in worker.log, "its process is killed")
        wait_until(
            lambda n=starts: witness(neighbour) == [("start", k + 1) for k in range(n)],
            "the neighbour runs, again where it was given back",
        )
        assert status_of(connection, deaf) == "canceled"
        number = 3 if held == "w.spare" else 1
        ended = attempts_of(connection, deaf)[number - 1 :]
        assert ended == [(number, "canceled", None)]
    gate.touch()
    wait_until(
        lambda: status_of(connection, neighbour) == "succeeded", "the neighbour ends"
    )
    statuses = [status for _, status, _ in attempts_of(connection, neighbour)]
    assert statuses == ["released", "succeeded"]
