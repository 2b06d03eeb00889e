"""A handler that holds up its process costs itself, and none of its neighbours."""

from __future__ import annotations

import os
import struct
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgflow_cli.models.jobs import LeasedJob, LeaseRequest, Scan
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository
from pgflow_cli.worker import channel, process
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.process import CONTEXT, Child
from pgflow_cli.worker.shared_memory import Control, SharedMemory
from pgflow_cli.worker.supervisor import Supervisor
from tests.support.jobs import attempts_of, plant, status_of
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Wait = Callable[..., Any]
LONG = 3600.0


@pytest.fixture
def supervisor(database: Database) -> Supervisor:
    return Supervisor(WorkerOptions(url=DatabaseSettings(database.url).url))


@pytest.fixture
def child(supervisor: Supervisor) -> Iterator[Child]:
    """A process that stands still, and has room for three jobs."""
    sleeper = CONTEXT.Process(target=time.sleep, args=(600,))
    sleeper.start()
    ours, theirs = channel.pair()
    made = Child(
        number=0,
        name="w",
        options=supervisor.options,
        worker_id=str(uuid.uuid4()),
        memory=SharedMemory.create(CONTEXT, runs=3, leases=3),
        control=Control.create(CONTEXT, 3),
        pipe=ours,
        process=sleeper,
        started=time.monotonic(),
        ready=True,
    )
    supervisor._children.append(made)
    yield made
    theirs.close()
    ours.close()
    sleeper.kill()
    sleeper.join()


def lease(repository: Repository, child: Child) -> list[LeasedJob]:
    """Lease all there is in the name of a process."""
    request = LeaseRequest(
        worker_id=child.worker_id,
        worker_name=child.name,
        code_version=None,
        batch_id=str(uuid.uuid4()),
        lease_seconds=600,
        queues=["default"],
        job_types=None,
        room=3,
        scan=Scan(),
        settlements=[],
        closed=[],
    )
    return repository.leases.settle_and_lease(request).jobs


def run(child: Child, jobs: list[LeasedJob], late_by: list[float]) -> None:
    """Have jobs run in it whose deadlines passed so many seconds ago."""
    now = time.monotonic()
    for place, (job, late) in enumerate(zip(jobs, late_by, strict=True)):
        attempts = (job.attempt_no, job.failed_attempts, job.max_attempts)
        child.memory.start(place, job.lease_id, job.job_id, now - late, attempts)


def turned(child: Child, ago: float) -> None:
    struct.pack_into("=d", child.memory.memory, 0, time.monotonic() - ago)


def settle(supervisor: Supervisor, repository: Repository) -> None:
    while not supervisor._upkeep.urgent.empty():
        supervisor._upkeep.urgent.get()(repository)


def test_a_deadline_that_passes_while_the_process_stands_still_is_charged_to_no_job(
    connection: Connection,
    repository: Repository,
    supervisor: Supervisor,
    child: Child,
) -> None:
    """Each would have ended in time, had the process run; they are lost, and one that
    holds it up again runs apart in the end.
    """
    jobs = plant(connection, 3, max_attempts=1)
    run(child, lease(repository, child), [60, 50, -LONG])
    turned(child, ago=100)
    supervisor._look_at_deadlines()
    assert child not in supervisor._children
    settle(supervisor, repository)
    for job in jobs:
        assert attempts_of(connection, job) == [(1, "lost", "WORKER_LOST")]
        assert status_of(connection, job) == "queued"
    [[message]] = connection.execute(
        "select distinct error_message from pgflow.job_attempts"
    ).fetchall()
    assert "this job or another one that ran in it" in message


def test_a_job_that_stands_still_alone_has_held_up_its_process(
    connection: Connection,
    repository: Repository,
    supervisor: Supervisor,
    child: Child,
) -> None:
    [job] = plant(connection, max_attempts=1)
    run(child, lease(repository, child), [60])
    turned(child, ago=100)
    supervisor._look_at_deadlines()
    settle(supervisor, repository)
    assert attempts_of(connection, job) == [(1, "failed", "TIMEOUT")]


def test_a_deadline_before_the_last_of_several_standstills_is_charged_to_no_job(
    connection: Connection,
    repository: Repository,
    supervisor: Supervisor,
    child: Child,
) -> None:
    """It may have passed in the one before: the process has turned for an instant."""
    jobs = plant(connection, 2, max_attempts=1)
    run(child, lease(repository, child), [60, -LONG])
    turned(child, ago=10)
    supervisor._look_at_deadlines()
    settle(supervisor, repository)
    for job in jobs:
        assert attempts_of(connection, job) == [(1, "lost", "WORKER_LOST")]


def test_a_supervisor_that_stood_still_gives_its_processes_time_to_turn_again(
    supervisor: Supervisor, child: Child
) -> None:
    """They may have been frozen with it, as a virtual machine is that is paused."""
    child.memory.start(
        0, str(uuid.uuid4()), str(uuid.uuid4()), time.monotonic() - 60, (1, 0, 25)
    )
    supervisor._looked_at -= 60
    supervisor._look_at_deadlines()
    assert child in supervisor._children
    supervisor._look_again = 0.0
    supervisor._look_at_deadlines()
    assert child not in supervisor._children


def test_a_process_that_is_frozen_before_it_is_ready_is_replaced(
    supervisor: Supervisor, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place would stay vacant for ever. One that computes may import for long."""
    used = ["0 0"]
    monkeypatch.setattr(process, "_processor_time", lambda _: used[0])
    child.ready = False
    supervisor._look_at_deadlines()
    child._worked = used[0], time.monotonic() - process.START
    used[0] = "1 0"
    supervisor._look_at_deadlines()
    assert child.process.is_alive()
    child._worked = used[0], time.monotonic() - process.START
    supervisor._look_at_deadlines()
    child.process.join(60)
    assert not child.process.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="where /proc tells it")
def test_a_process_that_computes_is_seen_to(wait_until: Wait) -> None:
    before = process._processor_time(os.getpid())
    assert before is not None

    def computes() -> bool:
        sum(range(100_000))
        return process._processor_time(os.getpid()) != before

    wait_until(computes, "it is seen")


def test_a_process_is_answered_once_a_heartbeat_of_it_was(child: Child) -> None:
    assert not child.is_answered(), "its board shows when it was started"
    child.memory.renew(time.monotonic())
    assert child.is_answered()
