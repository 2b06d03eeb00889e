"""What a crash costs: time, never a job, and never an outcome twice."""

from __future__ import annotations

import os
import re
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg

from pgflow_cli.models.jobs import LeaseRequest as Lease
from pgflow_cli.models.jobs import Scan
from pgflow_cli.repository import Repository
from tests.acceptance.conftest import Worker, is_gone
from tests.support.jobs import attempts_of, plant, status_of, statuses_of
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]

SHORT = ("--lease-seconds", "2", "--reap-interval", "200ms")


def settled(connection: Connection, *jobs: str) -> Callable[[], bool]:
    return lambda: statuses_of(connection, [*jobs]) <= {"succeeded", "dlq"}


def test_a_supervisor_killed_in_the_middle_of_a_job_costs_one_attempt(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    [job] = plant(connection, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    first = start_worker(*SHORT)
    wait_until(lambda: witness(job), "the job starts")
    children = first.children()
    first.process.kill()
    assert not psutil.wait_procs(children, timeout=60)[1], "its processes die with it"
    gate.touch()
    start_worker(*SHORT)
    wait_until(settled(connection, job), "another worker runs it")
    assert attempts_of(connection, job) == [
        (1, "lost", "WORKER_LOST"),
        (2, "succeeded", None),
    ]
    assert witness(job) == [("start", 1), ("start", 2), ("end", 2)]


def test_a_killed_process_is_recorded_with_its_signal_and_replaced(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    jobs = plant(connection, 2, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    # A lease of an hour: only the supervisor can have settled it.
    worker = start_worker("--lease-seconds", "3600")
    wait_until(lambda: all(witness(j) for j in jobs), "both jobs start")
    [child] = worker.children()
    child.kill()
    gate.touch()
    wait_until(settled(connection, *jobs), "a new process runs them")
    for job in jobs:
        assert [a[1] for a in attempts_of(connection, job)] == ["lost", "succeeded"]
    row = connection.execute(
        "select distinct error_message from pgflow.job_attempts where status = 'lost'"
    ).fetchall()
    assert row == [("the worker process ended: signal SIGKILL",)]


def test_processes_that_settle_nothing_are_replaced_more_and_more_slowly(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    """One that has settled a job is replaced in a second, however soon it dies."""
    worker = start_worker("--log-jobs", "--log-format", "json")

    def end_process() -> None:
        known = "select array(select pid from pgflow.workers)"
        row = wait_until(
            lambda: [
                child
                for child in worker.children()
                if child.pid in connection.execute(known).fetchone()[0]
            ],
            "a process is ready",
        )
        row[0].kill()
        wait_until(lambda: is_gone(row[0]), "it is gone")

    end_process()
    end_process()
    [job] = plant(connection, job_type="quick")
    wait_until(lambda: "job_succeeded" in worker.log, "a job is settled")
    assert status_of(connection, job) == "succeeded"
    end_process()
    pauses = ["1 s", "2 s", "1 s"]
    wait_until(
        lambda: re.findall(r"the next process starts in (\d+ s)", worker.log) == pauses,
        "each death is followed by its pause",
    )


def test_a_poison_job_ends_as_a_crash_loop_and_harms_nobody(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
) -> None:
    """One kills its process, one makes it crash."""
    # Few: those that are lost with it run apart, too, each in a process of its own.
    good = plant(connection, 2, job_type="quick")
    bad = [plant(connection, job_type=kind)[0] for kind in ("poison", "crashes")]
    good += plant(connection, 2, job_type="quick")
    start_worker(*SHORT)
    wait_until(settled(connection, *bad, *good), "all are settled", seconds=300)
    assert statuses_of(connection, good) == {"succeeded"}
    for job in bad:
        assert [a[1] for a in attempts_of(connection, job)] == ["lost"] * 3
    rows = connection.execute(
        "select dlq_reason_code, error_code from pgflow.dead_letters"
    ).fetchall()
    assert rows == [("CRASH_LOOP", "WORKER_LOST")] * 2


def test_a_job_that_kills_the_supervisor_starts_three_times(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
) -> None:
    [bad] = plant(connection, job_type="poisons_all")
    good = plant(connection, 2, job_type="quick")
    for number in (1, 2, 3):
        worker = start_worker(*SHORT)
        wait_until(lambda n=number: len(witness(bad)) == n, "it starts")
        worker.wait()
    start_worker(*SHORT)
    wait_until(settled(connection, bad, *good), "all are settled", seconds=150)
    assert status_of(connection, bad) == "dlq"
    assert len(witness(bad)) == 3
    assert {status_of(connection, j) for j in good} == {"succeeded"}


def test_a_supervisor_frozen_past_its_lease_settles_nothing(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    [job] = plant(connection, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    frozen = start_worker(*SHORT)
    wait_until(lambda: witness(job), "the job starts")
    stopped = [psutil.Process(frozen.pid), *frozen.children()]
    for process in stopped:
        process.suspend()
    second = start_worker(*SHORT)
    wait_until(lambda: ("start", 2) in witness(job), "another worker runs it")
    gate.touch()
    wait_until(settled(connection, job), "it is settled")
    for process in stopped:
        process.resume()
    wait_until(lambda: ("end", 1) in witness(job), "the stale run ends")
    wait_until(lambda: "its lease" in frozen.log, "its outcome is thrown away")
    assert attempts_of(connection, job) == [
        (1, "lost", "WORKER_LOST"),
        (2, "succeeded", None),
    ]
    assert second.process.poll() is None


def test_jobs_that_outlive_the_lease_of_a_frozen_supervisor_run_again(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    """Its processes go on, and find their lease run out; there is no other worker."""
    gate = tmp_path / "gate"
    jobs = plant(connection, 4, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    worker = start_worker(*SHORT)
    wait_until(lambda: all(witness(j) for j in jobs), "the jobs start")
    worker.send(signal.SIGSTOP)
    wait_until(
        lambda: connection.execute(
            "select bool_and(expires_at < now()) from pgflow.leases"
        ).fetchone()[0],
        "their leases run out",
    )
    gate.touch()
    wait_until(
        lambda: worker.log.count("its lease is gone") == 4, "the process says so"
    )
    assert {status_of(connection, j) for j in jobs} == {"running"}
    worker.send(signal.SIGCONT)
    wait_until(settled(connection, *jobs), "they run again")
    for job in jobs:
        assert [a[1] for a in attempts_of(connection, job)] == ["lost", "succeeded"]


def test_a_process_that_dies_before_it_has_settled_what_ended_costs_an_attempt(
    connection: Connection,
    database: Database,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    [job] = plant(connection, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    worker = start_worker("--lease-seconds", "3")
    wait_until(lambda: busy_slots(connection) == 1, "a heartbeat says that it runs")
    wait_until(lambda: witness(job), "so does the job")
    holder = database.connect(autocommit=False)
    holder.execute("lock table pgflow.job_attempts in share row exclusive mode")
    gate.touch()
    wait_until(lambda: busy_slots(connection) == 0, "a heartbeat says it has ended")
    sessions = "from pg_stat_activity where application_name like 'pgflow work %'"
    pids = [pid for (pid,) in connection.execute(f"select pid {sessions}").fetchall()]
    [child] = worker.children()
    child.kill()
    # Else its last statement might settle the job after all.
    connection.execute(
        "select pg_terminate_backend(p, 5000) from unnest(%s::int[]) p", (pids,)
    )
    holder.rollback()
    wait_until(settled(connection, job), "a new process runs it")
    assert attempts_of(connection, job) == [
        (1, "lost", "WORKER_LOST"),
        (2, "succeeded", None),
    ]
    assert witness(job) == [("start", 1), ("end", 1), ("start", 2), ("end", 2)]


def test_what_a_killed_process_leases_after_its_burial_costs_no_attempt(
    connection: Connection,
    repository: Repository,
    start_worker: Start,
    wait_until: Wait,
) -> None:
    """Its last statement still runs on the server, and commits when it is buried; the
    second time while the worker ends.
    """
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_in_flight) values ('held', 1)"
    )
    [job] = plant(connection, queue="held", job_type="quick")
    # It serves another queue, so that only the late statement leases the job.
    worker = start_worker("--queue", "default", "--lease-seconds", "3600")
    process = "select worker_id::text, pid from pgflow.workers where slots > 0"
    buried = "select 1 from pgflow.workers where worker_id = %s"
    row = "select attempt_no from pgflow.pending where job_id = %s"
    for ending in (False, True):
        [worker_id, pid] = wait_until(
            lambda: connection.execute(process).fetchone(), "a process is ready"
        )
        late = Lease(
            worker_id=worker_id,
            worker_name="late",
            code_version=None,
            batch_id=str(uuid.uuid4()),
            lease_seconds=3600.0,
            queues=["held"],
            job_types=None,
            room=1,
            scan=Scan(),
            settlements=[],
            closed=[],
        )
        with repository.transaction():
            # Of the two, this one has no lock on the process's row.
            assert len(repository.leases.lease_limited(late)) == 1
            os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda w=worker_id: not connection.execute(buried, (w,)).fetchone(),
                "it is buried",
            )
        if ending:
            worker.send(signal.SIGTERM)
            assert worker.wait() == 0
            assert status_of(connection, job) == "queued"
        wait_until(lambda: status_of(connection, job) == "queued", "it is given back")
        assert attempts_of(connection, job) == []
        assert connection.execute(row, (job,)).fetchone() == (0,)


def busy_slots(connection: Connection) -> int | None:
    row = connection.execute("select busy_slots from pgflow.workers").fetchone()
    return row and int(row[0])


def test_a_handler_that_stops_the_clock_harms_no_other(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    [job] = plant(connection, job_type="stops_the_clock", max_attempts=1)
    start_worker()
    wait_until(settled(connection, job), "it is settled")
    [good] = plant(connection, job_type="quick", max_attempts=1)
    wait_until(settled(connection, good), "the next one is, too")
    assert attempts_of(connection, job) == [(1, "succeeded", None)]
    assert attempts_of(connection, good) == [(1, "succeeded", None)]


def test_a_handler_that_holds_the_interpreter_keeps_its_lease(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
) -> None:
    [job] = plant(connection, job_type="holds_the_interpreter", payload='{"length": 4}')
    start_worker("--lease-seconds", "2", "--reap-interval", "100ms")
    start_worker("--lease-seconds", "2", "--reap-interval", "100ms")
    wait_until(settled(connection, job), "it ends", seconds=120)
    assert witness(job) == [("start", 1), ("end", 1)]


def test_a_handler_that_holds_the_interpreter_past_its_deadline_is_ended_from_outside(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    [job] = plant(connection, job_type="holds_for_ever", max_attempts=1)
    [good] = plant(connection, job_type="quick", due_in="1 second")
    start_worker("--lease-seconds", "60")
    wait_until(settled(connection, job, good), "it is ended", seconds=60)
    assert attempts_of(connection, job) == [(1, "failed", "TIMEOUT")]
    assert status_of(connection, job) == "dlq"
    counted = "select outcome, count from pgflow.worker_counters where metric = %s"
    wait_until(
        lambda: (
            sorted(connection.execute(counted, ("attempts",)).fetchall())
            == [("dlq", 1), ("succeeded", 1)]
        ),
        "both are counted",
    )


def test_no_process_is_left_when_a_supervisor_is_killed_while_it_starts(
    start_worker: Start, wait_until: Wait
) -> None:
    worker = start_worker()
    children = wait_until(worker.children, "a process starts")
    os.kill(worker.pid, signal.SIGKILL)
    assert not psutil.wait_procs(children, timeout=60)[1]
