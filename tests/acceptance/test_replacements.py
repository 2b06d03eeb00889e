"""What a supervisor does with a process that it replaces harms none of the others."""

from __future__ import annotations

import math
import multiprocessing
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository
from pgflow_cli.telemetry.counters import Tally
from pgflow_cli.worker import channel
from pgflow_cli.worker.heartbeat import HELD_UP, Heartbeat
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.process import CONTEXT, Child
from pgflow_cli.worker.shared_memory import GONE, Control, SharedMemory
from pgflow_cli.worker.supervisor import Supervisor
from tests.repository.test_burials import lease
from tests.support.jobs import expire_leases, plant
from tests.support.servers import Database


@pytest.fixture
def options(database: Database) -> WorkerOptions:
    return WorkerOptions(url=DatabaseSettings(database.url).url, max_jobs=5)


@pytest.fixture
def child(options: WorkerOptions) -> Iterator[Child]:
    """A process that hears nothing."""
    process = CONTEXT.Process(target=time.sleep, args=(600,))
    process.start()
    ours, theirs = channel.pair()
    yield Child(
        number=0,
        name="worker.0",
        options=options,
        worker_id=str(uuid.uuid4()),
        memory=SharedMemory.create(CONTEXT, runs=1, leases=1),
        control=Control.create(CONTEXT, 1),
        pipe=ours,
        process=process,
        started=time.monotonic(),
        ready=True,
    )
    theirs.close()
    ours.close()
    process.kill()
    process.join()


def test_what_an_operator_takes_back_is_taken_back(
    database: Database, options: WorkerOptions, child: Child
) -> None:
    """The row counts, whatever the supervisor believed before."""
    repository = Repository.of(DatabaseSettings(database.url))
    heartbeat = Heartbeat(
        options, repository.database, str(uuid.uuid4()), lambda: [child]
    )
    heartbeat.beat(repository)
    repository.workers.quiet_workers([child.worker_id])
    for _ in range(2):
        heartbeat.beat(repository)
        assert child.quiet
        assert child.control.is_quiet()
    repository.workers.resume_workers([child.worker_id])
    heartbeat.beat(repository)
    assert not child.quiet
    assert not child.control.is_quiet()
    repository.close()


def test_a_signal_that_comes_during_a_heartbeat_is_not_forgotten(
    database: Database, options: WorkerOptions, child: Child
) -> None:
    repository = Repository.of(DatabaseSettings(database.url))
    heartbeat = Heartbeat(
        options, repository.database, str(uuid.uuid4()), lambda: [child]
    )
    before = child.row()
    child.hushed = True
    child.make_quiet()
    child.learn(before, quiet=False)  # what came of a heartbeat sent before
    assert child.quiet
    for _ in range(2):
        heartbeat.beat(repository)
        assert child.quiet
        assert not child.hushed
    repository.workers.resume_workers([child.worker_id])
    heartbeat.beat(repository)
    assert not child.quiet
    repository.close()


def test_a_row_that_was_forgotten_comes_back_as_quiet_as_it_was(
    database: Database, options: WorkerOptions, child: Child
) -> None:
    repository = Repository.of(DatabaseSettings(database.url))
    heartbeat = Heartbeat(
        options, repository.database, str(uuid.uuid4()), lambda: [child]
    )
    heartbeat.beat(repository)
    repository.workers.quiet_workers([child.worker_id])
    heartbeat.beat(repository)
    repository.unsettled_leases.forget_workers([child.worker_id])
    heartbeat.beat(repository)
    repository.close()
    assert child.quiet


def test_what_replaces_a_process_that_retires_is_not_quiet(
    database: Database, options: WorkerOptions, child: Child
) -> None:
    repository = Repository.of(DatabaseSettings(database.url))
    heartbeat = Heartbeat(
        options, repository.database, str(uuid.uuid4()), lambda: [child]
    )
    child.retiring = True
    heartbeat.beat(repository)
    heartbeat.beat(repository)
    [row] = repository.workers.list_workers()
    repository.close()
    assert (row.retiring, row.quiet) == (True, False)
    assert not child.quiet


def test_what_a_job_keeps_its_process_from_reading_stays_leased(
    database: Database, options: WorkerOptions, child: Child
) -> None:
    """The reply of a lease waits in the socket, and no job of it has begun."""
    repository = Repository.of(DatabaseSettings(database.url))
    heartbeat = Heartbeat(
        options, repository.database, str(uuid.uuid4()), lambda: [child]
    )
    connection = database.connect()
    plant(connection)
    [unread] = lease(repository, child.worker_id)
    expire_leases(connection)
    running = str(uuid.uuid4()), str(uuid.uuid4())
    child.memory.hold(running[0], math.inf)
    child.memory.start(0, *running, time.monotonic() + 600, (1, 0, 25))
    expired = "select lease_id::text from pgflow.leases where expires_at < now()"

    struct.pack_into("=d", child.memory.memory, 0, time.monotonic() + 600)  # it turns
    heartbeat.beat(repository)
    assert connection.execute(expired).fetchall() == [(unread.lease_id,)]

    struct.pack_into("=d", child.memory.memory, 0, time.monotonic() - 2 * HELD_UP)
    heartbeat.beat(repository)
    assert connection.execute(expired).fetchall() == []
    repository.close()


def test_processes_that_die_at_once_leave_a_row_that_says_so(
    database: Database, options: WorkerOptions, child: Child
) -> None:
    """Until one is ready again; and it is as quiet as the row said it was to be."""
    repository = Repository.of(DatabaseSettings(database.url))
    supervisor = Supervisor(options)
    heartbeat = supervisor._heartbeat
    heartbeat.beat(repository)
    assert repository.workers.list_workers() == [], "it starts for the first time"
    for deaths in (1, 2):
        dead = replace(child, ready=False)
        supervisor._children.append(dead)
        supervisor._bury(dead)
        heartbeat.beat(repository)
        [row] = repository.workers.list_workers()
        assert (row.name, row.alive, row.deaths, row.slots) == (
            "worker", True, deaths, 0,
        )  # fmt: skip
        assert not row.serves("default")
        assert [w.state for w in repository.workers.list_worker_processes()] == [
            "restarting"
        ]
    [listed] = repository.workers.list_worker_processes()
    repository.workers.quiet_workers([listed.worker_id])
    heartbeat.beat(repository)
    supervisor._children.append(child)
    supervisor._take_message(child, "ready", [["a"], []])
    heartbeat.beat(repository)
    [row] = repository.workers.list_workers()
    assert (row.pid, row.deaths, row.quiet) == (child.process.pid, None, True)
    supervisor._children.remove(child)
    repository.close()


def test_a_worker_that_ends_leaves_no_row_of_a_process_that_died(
    database: Database, options: WorkerOptions, child: Child
) -> None:
    repository = Repository.of(DatabaseSettings(database.url))
    supervisor = Supervisor(options)
    supervisor._children.append(child)
    supervisor._bury(child)
    supervisor._heartbeat.beat(repository)
    assert len(repository.workers.list_workers()) == 1
    supervisor._end()
    supervisor._heartbeat.beat(repository)
    assert repository.workers.list_workers() == []
    repository.close()


def test_a_handler_that_holds_the_interpreter_after_its_lease_is_lost_is_ended(
    options: WorkerOptions, child: Child
) -> None:
    """Long before its deadline: its job runs elsewhere, and its neighbours cannot."""
    supervisor = Supervisor(options)
    supervisor._children.append(child)
    lease, memory, now = str(uuid.uuid4()), child.memory, time.monotonic()
    memory.hold(lease, now + 60)
    memory.start(0, lease, str(uuid.uuid4()), now + 3600, (1, 0, 25))
    supervisor._look_at_deadlines()
    assert child in supervisor._children, "its lease is its own"
    memory.extend(lease, 0, GONE)
    memory.turn()
    child._gone = {lease: now - 3600}
    supervisor._look_at_deadlines()
    assert child in supervisor._children, "it turns, and ends it itself"
    struct.pack_into("=d", memory.memory, 0, 0.0)  # it has not turned for long
    supervisor._look_at_deadlines()
    assert child in supervisor._children, "it may turn soon: it may have been frozen"
    child._gone = {lease: now - 3600}
    supervisor._look_at_deadlines()
    assert child not in supervisor._children
    assert child.process not in multiprocessing.active_children()


def test_a_process_killed_for_its_deadline_takes_no_lock_along(
    options: WorkerOptions, child: Child
) -> None:
    """What is left to lease is counted under a lock that all processes share."""
    supervisor = Supervisor(options)
    supervisor._children.append(child)
    long_ago = time.monotonic() - 3600
    job = str(uuid.uuid4()), str(uuid.uuid4())
    child.memory.start(0, *job, long_ago, (1, 0, 25))
    lock = supervisor._remaining.get_lock()
    lock.acquire()  # as the process did that holds it
    supervisor._look_at_deadlines()
    assert child not in supervisor._children
    assert child.process not in multiprocessing.active_children()
    assert lock.acquire(timeout=0.1)


def test_what_was_counted_last_is_sent_though_the_session_has_ended(
    database: Database,
    connection: psycopg.Connection[Any],
    options: WorkerOptions,
    child: Child,
    wait_until: Callable[..., Any],
) -> None:
    settings = replace(DatabaseSettings(database.url), application_name="ending")
    heartbeat = Heartbeat(
        replace(options, heartbeat=3600), settings, str(uuid.uuid4()), lambda: [child]
    )
    attempt = ("q", "t", "succeeded", "", False)
    counted = "select count from pgflow.worker_counters where metric = 'attempts'"
    heartbeat.ledger.add(Tally(Counter({attempt: 1})))
    beating = threading.Thread(target=heartbeat.run)
    beating.start()
    wait_until(
        lambda: connection.execute(counted).fetchall() == [(1,)], "the first beat"
    )
    heartbeat.ledger.add(Tally(Counter({attempt: 2})))
    end = (
        "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity"
        " where application_name = 'ending' and state = 'idle'"
    )
    wait_until(lambda: connection.execute(end).fetchone() == (1,), "its session ends")
    heartbeat.stopped.set()
    heartbeat.hurry()
    beating.join()
    assert connection.execute(counted).fetchall() == [(3,)]


def test_a_heartbeat_that_does_not_come_is_overdue_without_an_error(
    options: WorkerOptions,
) -> None:
    """The supervisor reaps nothing then: its own leases would be among it."""
    database = DatabaseSettings(options.url)
    heartbeat = Heartbeat(
        replace(options, heartbeat=600.0), database, str(uuid.uuid4()), list
    )
    assert heartbeat.overdue_for() == 0.0
    heartbeat.answered_at -= 1000.0
    assert 99.0 < heartbeat.overdue_for() < 999.0
    assert heartbeat.failing_for() == 0.0
    heartbeat.failing_since = time.monotonic() - 5000.0
    assert heartbeat.overdue_for() >= 5000.0
