"""Jobs that become due behind the cursors are found at once, and in few statements.

The connections of a worker process take their turns here one by one, in the test's own
thread; there is no poll but where a test says so.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pgflow_cli import App
from pgflow_cli.models.jobs import (
    FirstDue,
    LeasedJob,
    LeaseReply,
    LeaseRequest,
    Scan,
    Settlement,
)
from pgflow_cli.repository import Repository
from pgflow_cli.worker.execution.slots import Slots
from pgflow_cli.worker.leasing import capacity
from pgflow_cli.worker.leasing.capacity import Capacity
from pgflow_cli.worker.leasing.loop import LeaseLoop
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.shared_memory import SharedMemory
from tests.support.jobs import audit, new_worker, plant

Connection = psycopg.Connection[Any]
NEVER = 3600.0


class Told:
    """A repository that notes its statements, and which of them leased nothing while
    something was due.
    """

    def __init__(self, repository: Repository, connection: Connection) -> None:
        self._repository, self._connection = repository, connection
        self.sent: list[str] = []
        self.in_vain = 0

    @property
    def leases(self) -> Told:
        return self

    def settle_and_lease(self, cycle: LeaseRequest) -> LeaseReply:
        self.sent.append("settle_and_lease")
        reply = self._repository.leases.settle_and_lease(cycle)
        if cycle.room and not reply.jobs:
            self.in_vain += due(self._connection) > 0
        return reply

    def look_behind(self, cycle: LeaseRequest) -> list[FirstDue]:
        self.sent.append("look_behind")
        return self._repository.leases.look_behind(cycle)

    def lease_limited(self, cycle: LeaseRequest) -> list[LeasedJob]:
        self.sent.append("lease_limited")
        return self._repository.leases.lease_limited(cycle)

    def __getattr__(self, name: str) -> Any:
        mine = hasattr(type(self._repository.leases), name)
        return getattr(self._repository.leases if mine else self._repository, name)


class Process:
    """A worker process without its loop: its connections turn when they are told."""

    def __init__(
        self,
        app: App,
        repositories: list[Told],
        *,
        poll: float = NEVER,
        concurrency: int = 50,
    ) -> None:
        plan = WorkerOptions(
            url="", queues=None, poll=poll, concurrency=concurrency,
            batch_size=concurrency, lease_seconds=600.0,
        )  # fmt: skip
        context = multiprocessing.get_context("spawn")
        memory = SharedMemory.create(context, plan.places, plan.places)
        memory.renew(time.monotonic())
        self.slots = Slots(concurrency, memory, lambda _: [])
        self.capacity = Capacity(plan, memory, app, self.slots, None)
        worker = new_worker()
        self.loops = [
            LeaseLoop(
                self.capacity, repository, worker_id=worker, worker_name="worker-1",
                primary=number == 0,
            )
            for number, repository in enumerate(repositories)
        ]  # fmt: skip

    def wake(self) -> None:
        self.capacity.woken.set()
        self.loops[0].event.set()

    def turn_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            self.loops[0].take_turn()


def due(connection: Connection, condition: str = "true") -> int:
    row = connection.execute(
        f"select count(*) from pgflow.pending where run_at <= now() and {condition}"
    ).fetchone()
    assert row is not None
    return int(row[0])


def all_settled(connection: Connection) -> bool:
    row = connection.execute(
        "select not exists (select from pgflow.pending where run_at <= now())"
        " and not exists (select from pgflow.leases)"
    ).fetchone()
    return row == (True,)


@pytest.fixture
def told(connection: Connection, repository: Repository) -> Told:
    return Told(repository, connection)


@pytest.fixture
def idle(told: Told) -> Iterator[Callable[..., Process]]:
    """Start a process that has found nothing and knows it."""
    made: list[Process] = []

    def make(app: App, **options: Any) -> Process:
        process = Process(app, [told], **options)
        made.append(process)
        process.turn_until(lambda: process.capacity.idle)
        told.sent.clear()
        return process

    yield make
    for process in made:
        process.slots.stop()


@pytest.fixture(autouse=True)
def _every_trial_ends_with_the_audit(connection: Connection) -> Any:
    yield
    assert audit(connection) == (0, 0)


@pytest.fixture
def app() -> App:
    made = App()
    made.handler("noop")(lambda _job: None)
    return made


def test_a_worker_that_is_woken_leases_first_and_looks_behind_its_cursors_then(
    connection: Connection, told: Told, app: App, idle: Callable[..., Process]
) -> None:
    plant(connection)
    process = idle(app)
    process.capacity.cursors.forget()  # a look is due
    with connection.transaction():
        plant(connection, due_in="-10 s")
        plant(connection)
    process.wake()
    told.sent.clear()
    process.turn_until(lambda: all_settled(connection))
    assert told.sent.index("settle_and_lease") < told.sent.index("look_behind")


def test_what_a_long_transaction_commits_is_leased_without_a_scan_in_vain(
    connection: Connection, told: Told, app: App, idle: Callable[..., Process]
) -> None:
    # Every place has a cursor.
    for queue in ("a", "b", "c"):
        for priority in (0, 5):
            plant(connection, queue=queue, priority=priority)
    process = idle(app, poll=0.05)
    assert all_settled(connection)
    with connection.transaction():
        for queue in ("a", "b", "c"):
            for priority in (0, 5):
                plant(connection, 200, queue=queue, priority=priority, due_in="-10 s")
    process.turn_until(lambda: all_settled(connection))
    assert told.in_vain == 0
    # Each leases what is free, and what settles later comes in as many again: all in
    # all a statement for every few jobs, where a scan in vain was one for every job.
    assert len(told.sent) < 300


def test_a_notification_leads_to_the_job_however_long_its_transaction_took(
    connection: Connection, told: Told, app: App, idle: Callable[..., Process]
) -> None:
    plant(connection)
    process = idle(app)
    plant(connection, due_in="-10 s")
    process.wake()
    process.turn_until(lambda: due(connection) == 0)
    assert told.sent[-2:] == ["look_behind", "settle_and_lease"]
    assert told.sent.count("settle_and_lease") <= 2
    process.turn_until(lambda: all_settled(connection))


def test_an_idle_worker_polls_with_one_statement_that_writes_nothing(
    connection: Connection, told: Told, app: App, idle: Callable[..., Process]
) -> None:
    plant(connection)
    process = idle(app, poll=0.25)
    for _ in range(4):
        process.loops[0].take_turn()
    assert told.sent == ["look_behind"] * 4


def test_an_idle_worker_says_so_again_in_case_its_row_was_removed(
    connection: Connection, told: Told, app: App, idle: Callable[..., Process]
) -> None:
    process = idle(app, poll=0.02)
    process.turn_until(lambda: "settle_and_lease" in told.sent)
    process.turn_until(lambda: told.sent[-1] == "look_behind")


def test_a_worker_that_found_nothing_waits_for_a_reason(
    connection: Connection, told: Told, app: App, idle: Callable[..., Process]
) -> None:
    process = idle(app)
    process.wake()
    process.loops[0].take_turn()
    process.turn_until(lambda: process.loops[0]._pause() > NEVER / 2)
    assert told.sent.count("settle_and_lease") == 1
    assert told.sent[-1] == "look_behind"


def test_jobs_of_a_type_at_its_limit_are_found_when_the_limit_has_room(
    connection: Connection, told: Told, idle: Callable[..., Process]
) -> None:
    app = App()
    app.handler("narrow", concurrency=1)(lambda _job: None)
    app.handler("wide")(lambda _job: None)
    process = idle(app, concurrency=4)
    with connection.transaction():
        for _ in range(20):
            plant(connection, job_type="narrow", due_in="-10 s")
            plant(connection, job_type="wide", due_in="-10 s")
    process.wake()
    process.turn_until(lambda: all_settled(connection))


@pytest.mark.parametrize(
    "order",
    [
        "insert into pgflow.queue_policies (queue, paused_until)"
        " values ('default', 'infinity')",
        "insert into pgflow.queue_policies (queue, max_in_flight)"
        " values ('default', 0)",
    ],
)
def test_a_queue_that_was_shut_is_scanned_from_its_first_job(
    connection: Connection,
    told: Told,
    app: App,
    idle: Callable[..., Process],
    order: str,
) -> None:
    plant(connection)
    process = idle(app, poll=0.05)
    connection.execute(order)
    plant(connection, 3, due_in="-10 s")
    for _ in range(3):
        process.loops[0].take_turn()
    assert due(connection) == 3
    assert process.capacity.idle
    connection.execute("delete from pgflow.queue_policies")
    process.turn_until(lambda: all_settled(connection))


def test_a_job_that_another_transaction_has_locked_is_leased_after_a_rollback(
    database: Any,
    connection: Connection,
    told: Told,
    app: App,
    idle: Callable[..., Process],
) -> None:
    process = idle(app, poll=0.05)
    plant(connection, 2, due_in="-10 s")
    holder = database.connect(autocommit=False)
    holder.execute("select from pgflow.pending limit 1 for update")
    process.turn_until(lambda: due(connection) == 1)
    told.sent.clear()
    for _ in range(6):
        process.loops[0].take_turn()
    # It cannot be had: looked for at each poll, and not between.
    assert told.sent.count("settle_and_lease") <= 6
    holder.rollback()
    process.turn_until(lambda: all_settled(connection))


def test_two_connections_share_what_a_look_has_found(
    database: Any, connection: Connection, told: Told, app: App
) -> None:
    other = Told(Repository.of(told.database), connection)
    process = Process(app, [told, other], poll=0.05, concurrency=20)
    process.turn_until(lambda: process.capacity.idle)
    plant(connection, 200, due_in="-10 s")
    while not all_settled(connection):
        for cycle in process.loops:
            cycle.take_turn()
    assert told.in_vain + other.in_vain == 0
    process.slots.stop()
    other.close()


def limit(connection: Connection, most: int) -> None:
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_in_flight)"
        " values ('default', %s)",
        (most,),
    )


class Neighbour:
    """Another worker, which holds the one job that a limit allows."""

    def __init__(self, connection: Connection, repository: Repository) -> None:
        limit(connection, 1)
        plant(connection)
        self._repository = repository
        self._cycle = LeaseRequest(
            worker_id=new_worker(), worker_name="neighbour", code_version=None,
            batch_id=new_worker(), lease_seconds=600.0, queues=None, job_types=None,
            room=1, scan=Scan(), settlements=[], closed=[],
        )  # fmt: skip
        [self._job] = repository.leases.lease_limited(self._cycle)

    def settle(self) -> None:
        job = self._job
        done = Settlement(job.lease_id, job.job_id, job.attempt_no, "succeeded")
        self._repository.leases.settle_and_lease(
            replace(self._cycle, room=0, settlements=[done], closed=[job.lease_id])
        )


def test_an_idle_worker_only_looks_while_a_limit_is_spent_elsewhere(
    connection: Connection,
    repository: Repository,
    told: Told,
    app: App,
    idle: Callable[..., Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "PAUSE", NEVER)
    process = idle(app, poll=0.02)
    neighbour = Neighbour(connection, repository)
    jobs = plant(connection, 3, due_in="-10 s")
    process.turn_until(lambda: "lease_limited" in told.sent)
    told.sent.clear()
    for _ in range(30):
        process.loops[0].take_turn()
    assert set(told.sent) == {"look_behind"}
    assert not process.capacity.idle  # these jobs will run
    neighbour.settle()
    process.turn_until(lambda: all_settled(connection))
    assert told.sent.count("lease_limited") <= 2 * len(jobs) + 1


def test_a_spent_limit_is_told_once_in_a_while(
    connection: Connection,
    repository: Repository,
    told: Told,
    app: App,
    idle: Callable[..., Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "PAUSE", 0.0)
    process = idle(app, poll=0.02)
    neighbour = Neighbour(connection, repository)
    plant(connection, due_in="-10 s")
    process.turn_until(lambda: told.sent.count("lease_limited") > 2)
    row = connection.execute("select reason_code from pgflow.policy_decisions")
    assert row.fetchone() == ("IN_FLIGHT_EXCEEDED",)
    neighbour.settle()
    process.turn_until(lambda: all_settled(connection))


def test_a_busy_worker_does_not_ask_for_a_spent_limit_at_every_turn(
    connection: Connection,
    repository: Repository,
    told: Told,
    app: App,
    idle: Callable[..., Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "PAUSE", NEVER)
    process = idle(app, poll=0.02, concurrency=2)
    neighbour = Neighbour(connection, repository)
    plant(connection, due_in="-10 s")
    plant(connection, 60, queue="flood", due_in="-10 s")
    process.wake()
    process.turn_until(lambda: due(connection, "queue = 'flood'") == 0)
    assert told.sent.count("lease_limited") == 1
    neighbour.settle()
    process.turn_until(lambda: all_settled(connection))


def test_a_job_that_settles_makes_room_for_the_next_at_once(
    connection: Connection, told: Told, app: App, idle: Callable[..., Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """There is no poll, and no look finds it first."""
    monkeypatch.setattr(capacity, "PAUSE", NEVER)
    limit(connection, 1)
    process = idle(app)
    plant(connection, 10, due_in="-10 s")
    process.wake()
    process.turn_until(lambda: all_settled(connection))
