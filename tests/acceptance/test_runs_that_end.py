"""What is to end by itself, and cannot do what it is for, says so by its exit code; and
signals that come before a worker can act on them.
"""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.acceptance.forked import Started
from tests.acceptance.test_first_second import HOOK, NOWHERE
from tests.support.jobs import plant, status_of
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]


@pytest.fixture
def lonely(database: Database, connection: Connection) -> Iterator[str]:
    """The URL of a role that may open one connection."""
    role = f"lonely_{uuid.uuid4().hex[:8]}"
    connection.execute(f"create role {role} login connection limit 1 in role postgres")
    yield database.url.replace("postgres@", f"{role}@", 1)
    connection.execute(f"drop role {role}")


@pytest.mark.parametrize("mode", ["--drain", "--once"])
def test_each_connection_of_a_run_counts(
    connection: Connection, start_worker: Start, lonely: str, mode: str
) -> None:
    """Whichever gets the one there is: the job that runs then does not end."""
    plant(connection, job_type="sleeps")
    options = ("--wait-for-db", "2s", "--shutdown-timeout", "0s", "--no-maintain")
    options += ("--exec", "sleeps=sleep 600")
    worker = start_worker(mode, *options, url=lonely, app=False)
    assert worker.wait() == 69
    assert "has not answered each connection of this run within 2 s" in worker.log


def test_a_signal_before_the_queue_is_drained_is_no_success(
    connection: Connection,
    start_worker: Start,
    wait_until: Wait,
    witness: Witness,
    tmp_path: Path,
) -> None:
    text = f'{{"gate": "{tmp_path / "never"}"}}'
    [job] = plant(connection, job_type="gated", payload=text)
    worker = start_worker("--drain", "--shutdown-timeout", "0s")
    wait_until(lambda: witness(job), "it runs")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 75
    assert "ended by SIGTERM before it was known" in worker.log
    assert status_of(connection, job) == "queued"


def test_a_signal_during_the_one_batch_lets_it_succeed(
    connection: Connection,
    start_worker: Start,
    wait_until: Wait,
    witness: Witness,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    [job] = plant(connection, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    worker = start_worker("--once")
    wait_until(lambda: witness(job), "it runs")
    worker.send(signal.SIGTERM)
    wait_until(lambda: "event=draining" in worker.log, "the signal is heard")
    gate.touch()
    assert worker.wait() == 0
    assert status_of(connection, job) == "succeeded"


@pytest.fixture
def have_looked(connection: Connection, wait_until: Wait) -> Callable[[int], None]:
    """Wait until so many processes have each looked in vain since this was called."""

    def wait(processes: int) -> None:
        [since] = connection.execute("select clock_timestamp()").fetchone() or [None]
        looks = """
            select distinct application_name from pg_stat_activity
            where datname = current_database() and query_start > %s
              and application_name like 'pgflow work %%'
              and query like '%%place.rank%%as took,%%'
            """
        seen: set[str] = set()

        def all_have() -> bool:
            seen.update(name for [name] in connection.execute(looks, (since,)))
            return len(seen) >= processes

        wait_until(all_have, "they have looked")

    return wait


@pytest.fixture
def drain_of_one_that_dies(
    connection: Connection,
    start_worker: Start,
    wait_until: Wait,
    witness: Witness,
    tmp_path: Path,
) -> Callable[..., tuple[str, Worker, Path]]:
    """Drain a job that runs until a gate is touched, and then ends its process, the
    first time. Returns job, worker and gate.
    """

    def start(*options: str) -> tuple[str, Worker, Path]:
        gate = tmp_path / "gate"
        text = json.dumps({"gate": str(gate)})
        [job] = plant(connection, job_type="ends_its_process_first", payload=text)
        worker = start_worker("--drain", *options)
        wait_until(lambda: witness(job), "it runs")
        return job, worker, gate

    return start


def test_no_queue_is_drained_while_the_jobs_of_a_dead_process_are_due(
    connection: Connection,
    drain_of_one_that_dies: Callable[..., tuple[str, Worker, Path]],
    have_looked: Callable[[int], None],
) -> None:
    """The other process found nothing before the first one died."""
    job, worker, gate = drain_of_one_that_dies(
        "--processes", "2", "--lease-seconds", "3"
    )
    for _ in range(3):
        have_looked(2)
    gate.touch()
    assert worker.wait() == 0
    assert status_of(connection, job) == "succeeded"


def test_no_queue_is_drained_before_what_a_dead_process_held_is_back(
    connection: Connection,
    drain_of_one_that_dies: Callable[..., tuple[str, Worker, Path]],
    wait_until: Wait,
    have_looked: Callable[[int], None],
) -> None:
    """An operator locks its lease, and the process that replaces it finds nothing."""
    job, worker, gate = drain_of_one_that_dies("--no-maintain")
    with psycopg.connect(connection.info.dsn) as operator:
        operator.execute("select from pgflow.leases for update")
        gate.touch()
        wait_until(lambda: "event=process_died" in worker.log, "it dies")
        for _ in range(5):
            if worker.process.poll() is not None:
                break
            have_looked(1)
    assert worker.wait() == 0
    assert status_of(connection, job) == "succeeded"


def test_a_signal_before_the_jobs_of_a_dead_process_are_back_is_no_success(
    connection: Connection,
    drain_of_one_that_dies: Callable[..., tuple[str, Worker, Path]],
    wait_until: Wait,
    have_looked: Callable[[int], None],
) -> None:
    _, worker, gate = drain_of_one_that_dies("--processes", "2", "--no-maintain")
    for _ in range(3):
        have_looked(2)
    with psycopg.connect(connection.info.dsn) as operator:
        operator.execute("select from pgflow.leases for update")
        gate.touch()
        wait_until(lambda: "event=process_died" in worker.log, "it dies")
        worker.send(signal.SIGTERM)
        wait_until(lambda: "event=draining" in worker.log, "the signal is heard")
    assert worker.wait() == 75


@pytest.mark.parametrize("mode", ["--drain", "--once"])
def test_a_signal_while_it_waits_for_its_database_is_no_success(
    start_worker: Start, wait_until: Wait, mode: str
) -> None:
    worker = start_worker(mode, url=NOWHERE)
    wait_until(lambda: "event=database_unavailable" in worker.log, "it waits")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 75


def test_a_signal_after_the_end_of_a_run_changes_nothing_of_it(
    start_worker: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the interpreter ends."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, signal\n"
        "ours = os.getpid()\n"
        "def late():\n"
        "    if os.getpid() == ours:\n"
        "        os.kill(ours, signal.SIGTERM)\n"
        "atexit.register(late)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path.rstrip(os.pathsep))
    worker = start_worker("--drain", "--no-maintain", how=Started)
    assert worker.wait() == 0


# Signals that end nothing.


@pytest.mark.parametrize("module", ["click", "pgflow_cli.worker.supervisor"])
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTSTP", "SIGUSR2"])
def test_a_signal_that_ends_nothing_waits_until_a_worker_can_act_on_it(
    connection: Connection,
    start_worker: Start,
    wait_until: Wait,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: str,
) -> None:
    """It comes to each of its processes while they load."""
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path.rstrip(os.pathsep))
    monkeypatch.setenv("SIGNAL", name)
    monkeypatch.setenv("SIGNAL_AT", module)
    worker = start_worker("--no-maintain", how=Started)
    if name == "SIGUSR2":
        wait_until(lambda: "event=stack" in worker.log, "it shows its stacks")
    else:
        quiet = "select 1 from pgflow.workers where quiet"
        wait_until(lambda: connection.execute(quiet).fetchone(), "it is quiet")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
