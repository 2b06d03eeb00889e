"""A supervisor is its own master, whatever its processes, the reader of its log or the
limits of the system do: leases are kept, who can hear is told, and it ends in time.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.acceptance.conftest import APP, Worker
from tests.conftest import RunsPgflow
from tests.support.jobs import attempts_of, plant, status_of, statuses_of
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]
StartsMute = Callable[..., subprocess.Popen[bytes]]

BRISK = ("--heartbeat", "100ms", "--reap-interval", "200ms")


def done(connection: Connection, *jobs: str) -> Callable[[], bool]:
    return lambda: statuses_of(connection, [*jobs]) == {"succeeded"}


def heartbeat_follows(connection: Connection, wait_until: Wait) -> None:
    """Wait for a heartbeat of every process later than now."""
    [now] = connection.execute("select clock_timestamp()").fetchone() or [None]
    wait_until(
        lambda: connection.execute(
            "select 1 from pgflow.workers having min(last_heartbeat) > %s", (now,)
        ).fetchone(),
        "heartbeats go on",
    )


def test_a_process_that_reads_nothing_holds_up_no_other(
    database: Database,
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    pgflow: RunsPgflow,
    tmp_path: Path,
) -> None:
    payload = f'{{"gate": "{tmp_path / "never"}"}}'
    canceled, kept = plant(connection, 2, job_type="gated", payload=payload)
    options = ("--processes", "2", "--worker-id", "w", "--shutdown-timeout", "200ms")
    worker = start_worker(*options, *BRISK)
    wait_until(lambda: witness(canceled) and witness(kept), "both run")
    pids = connection.execute("select distinct pid from witness").fetchall()
    [frozen] = [psutil.Process(pid) for (pid,) in pids]  # one lease holds both
    wait_until(lambda: len(worker.children()) == 2, "the other process is there")
    frozen.suspend()
    with database.connect() as listener:
        listener.execute("listen pgflow")
        for _ in range(600):  # more than the buffer of a pipe holds, one at a time
            connection.execute("select pg_notify('pgflow', 'default')")
            assert list(listener.notifies(timeout=60, stop_after=1))
    jobs = plant(connection, 5, job_type="quick")
    wait_until(done(connection, *jobs), "the other process goes on")
    command = ("jobs", "cancel", canceled, "--kill", "--yes")
    assert pgflow(*command).returncode == 0
    heartbeat_follows(connection, wait_until)
    jobs = plant(connection, 5, job_type="quick")
    wait_until(done(connection, *jobs), "the other process goes on")
    for name in ("w.0", "w.1"):
        assert pgflow("workers", "quiet", name, "--yes").returncode == 0
    wait_until(lambda: worker.log.count("quiet, leasing nothing") == 2, "both are told")
    heartbeat_follows(connection, wait_until)
    worker.send(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert attempts_of(connection, canceled) == [(1, "canceled", None)]
    assert [a[:2] for a in attempts_of(connection, kept)] == [(1, "released")]
    assert status_of(connection, kept) == "queued"


def test_a_process_that_thaws_learns_what_it_was_told(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    pgflow: RunsPgflow,
) -> None:
    [job] = plant(connection, job_type="patient")
    worker = start_worker("--worker-id", "w", *BRISK)
    wait_until(lambda: witness(job), "it runs")
    [child] = worker.children()
    child.suspend()
    assert pgflow("jobs", "cancel", job, "--kill", "--yes").returncode == 0
    assert pgflow("workers", "quiet", "w", "--yes").returncode == 0
    heartbeat_follows(connection, wait_until)
    heartbeat_follows(connection, wait_until)
    child.resume()
    wait_until(lambda: ("canceled", 1) in witness(job), "it is told of the cancel")
    wait_until(lambda: "told to lease nothing" in worker.log, "and of the quiet")


def test_a_second_signal_ends_a_worker_whose_processes_are_frozen(
    connection: Connection, start_worker: Start, witness: Witness, wait_until: Wait
) -> None:
    [job] = plant(connection, job_type="patient")
    worker = start_worker("--shutdown-timeout", "1h")
    wait_until(lambda: witness(job), "it runs")
    [child] = worker.children()
    child.suspend()
    worker.send(signal.SIGTERM)
    wait_until(lambda: "leasing no more" in worker.log, "the first one is heard")
    worker.send(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert [a[:2] for a in attempts_of(connection, job)] == [(1, "released")]


def test_a_process_that_cannot_be_started_is_started_when_it_can(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    worker = start_worker("--processes", "2", "--no-listen", *BRISK)
    # So that the supervisor has its connections, and needs no more descriptors.
    wait_until(lambda: "reap_expired_locks" in worker.log, "it reaps")
    wait_until(
        lambda: connection.execute(
            "select 1 from pgflow.workers having count(*) = 2"
        ).fetchone(),
        "both processes are ready",
    )
    taken = {int(fd) for fd in os.listdir(f"/proc/{worker.pid}/fd")}
    full = next(number for number in range(1000) if number not in taken)
    before = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    # The three descriptors of the dead one become free; another needs more.
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (full, before[1]))
    first, second = worker.children()
    second.kill()
    wait_until(lambda: "cannot start a worker process" in worker.log, "it says so")
    heartbeat_follows(connection, wait_until)
    jobs = plant(connection, 5, job_type="quick")
    wait_until(done(connection, *jobs), "the other process goes on")
    assert worker.process.poll() is None
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)
    wait_until(lambda: len(worker.children()) == 2, "the limit is lifted")
    assert first in worker.children()
    worker.send(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert "Traceback" not in worker.log


@pytest.fixture
def start_mute(database: Database, tmp_path: Path) -> Iterator[StartsMute]:
    """Start a worker whose stderr is a pipe that nothing reads, at least not yet."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str, url: str | None = None) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [
                    *(str(Path(sys.executable).with_name("pgflow")), "work"),
                    *("--app", str(APP), "--log-format", "json", *options),
                ],
                env={
                    **os.environ,
                    "DATABASE_URL": url or database.url,
                    "WITNESS_URL": url or database.url,
                },
                cwd=tmp_path,
                stderr=subprocess.PIPE,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_log_that_nothing_reads_holds_up_no_job(
    connection: Connection, start_mute: StartsMute, wait_until: Wait
) -> None:
    jobs = plant(connection, 10, job_type="chatty")
    worker = start_mute("--processes", "2", "--log-jobs", *BRISK)
    wait_until(done(connection, *jobs), "all are done")
    heartbeat_follows(connection, wait_until)
    jobs = plant(connection, 10, job_type="chatty")
    wait_until(done(connection, *jobs), "and more of them")
    wait_until(
        lambda: connection.execute(
            "select 1 from pgflow.worker_counters"
            " where metric = 'log_lines_dropped' and count > 0"
        ).fetchone(),
        "what was dropped is counted",
    )
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_a_reader_of_the_log_that_has_gone_holds_up_no_job(
    connection: Connection, start_mute: StartsMute, wait_until: Wait
) -> None:
    worker = start_mute("--log-jobs", *BRISK)
    assert worker.stderr is not None
    assert b'"event": "settings"' in worker.stderr.readline()
    worker.stderr.close()
    worker.stderr = None
    jobs = plant(connection, 10, job_type="chatty")
    wait_until(done(connection, *jobs), "all are done")
    heartbeat_follows(connection, wait_until)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_a_worker_that_cannot_begin_says_so_to_no_reader_and_ends(
    empty_database: Database, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        done = subprocess.run(
            [str(Path(sys.executable).with_name("pgflow")), "work"],
            env={**os.environ, "DATABASE_URL": empty_database.url},
            cwd=tmp_path,
            stderr=writer,
            check=False,
            timeout=60,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 78
