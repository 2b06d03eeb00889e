"""A dead process pays for what it had started, and for nothing that it leases later."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import DatabaseUnavailable, OutcomeUnknown
from pgflow_cli.models.jobs import EndedJob, LeasedJob, LeaseRequest, Scan
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Link, Repository
from pgflow_cli.worker import dead_processes
from pgflow_cli.worker.background import WHILE_FAILING, Upkeep
from pgflow_cli.worker.dead_processes import Burial, Graveyard
from pgflow_cli.worker.options import WorkerOptions
from tests.repository.test_reaping import poison
from tests.support.jobs import attempts_of, expire_leases, new_worker, plant, status_of
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
DEAD = new_worker()
SECONDS = 30.0


def lease(repository: Repository, worker_id: str = DEAD) -> list[LeasedJob]:
    """Lease all there is, as a process does whose statement is late."""
    request = LeaseRequest(
        worker_id=worker_id,
        worker_name="dead",
        code_version=None,
        batch_id=str(uuid.uuid4()),
        lease_seconds=SECONDS,
        queues=["default"],
        job_types=None,
        room=10,
        scan=Scan(),
        settlements=[],
        closed=[],
    )
    return repository.leases.settle_and_lease(request).jobs


def burial_of(*started: LeasedJob, worker_id: str = DEAD) -> Burial:
    begun = tuple((job.job_id, job.attempt_no) for job in started)
    return Burial(worker_id, "dead", "lost", "signal SIGKILL", begun, crash_budget=3)


class Clock:
    """What the graveyard takes for the time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(dead_processes, "monotonic", made)
    return made


class Asked(Repository):
    """Counts what is asked, and can be away."""

    asked = 0
    away = False

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._list = self.unsettled_leases.list_worker_leases
        self.unsettled_leases.list_worker_leases = self._ask  # type: ignore[method-assign]

    def _ask(self, worker_ids: Any) -> list[tuple[str, str]]:
        self.asked += 1
        if self.away:
            raise DatabaseUnavailable("away")
        return self._list(worker_ids)


@pytest.fixture
def asked(repository: Repository) -> Asked:
    return Asked(repository.link)


def test_what_a_dead_process_leases_late_is_given_back_uncharged(
    connection: Connection, repository: Repository
) -> None:
    [job] = plant(connection)
    [first] = lease(repository)
    graveyard, burial = Graveyard(SECONDS), burial_of(first)
    assert [j.started for j in burial.end(repository)] == [True]
    graveyard.add(burial)
    [late] = lease(repository)
    assert (late.job_id, late.attempt_no) == (job, 2)
    [(_, ended)] = graveyard.look(repository)
    assert [(j.job_id, j.started) for j in ended] == [(job, False)]
    assert attempts_of(connection, job) == [(1, "lost", "WORKER_LOST")]
    [again] = lease(repository, new_worker())
    assert again.attempt_no == 2, "its number is not consumed"


def test_what_is_released_and_not_charged_has_no_error_code(
    connection: Connection, repository: Repository
) -> None:
    [job] = plant(connection)
    burial = replace(burial_of(*lease(repository)), status="released")
    assert [j.started for j in burial.end(repository)] == [True]
    assert attempts_of(connection, job) == [(1, "released", None)]


def test_a_burial_that_is_repeated_charges_no_later_lease(
    connection: Connection, repository: Repository
) -> None:
    """The reply of the first was lost; the job that it gave back is leased again."""
    [job] = plant(connection)
    burial = burial_of(*lease(repository))
    burial.end(repository)
    lease(repository)
    assert [j.started for j in burial.end(repository)] == [False]
    assert attempts_of(connection, job) == [(1, "lost", "WORKER_LOST")]


def test_a_lease_whose_end_was_refused_is_left_to_run_out(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [bad] = lease(repository)
    poison(connection, [bad])
    graveyard, burial = Graveyard(SECONDS), burial_of(bad)
    assert burial.end(repository) == []
    graveyard.add(burial)
    connection.execute("delete from public.poisoned")
    assert graveyard.look(repository) == []
    assert status_of(connection, bad.job_id) == "running"


def test_one_statement_looks_for_all_who_are_buried_and_none_without(
    connection: Connection, asked: Asked, clock: Clock
) -> None:
    graveyard = Graveyard(SECONDS)
    assert graveyard.next_look() == math.inf
    assert graveyard.look(asked) == []
    assert asked.asked == 0
    other = new_worker()
    jobs = plant(connection, 2)
    for worker_id in (DEAD, other):
        graveyard.add(burial_of(worker_id=worker_id))
    lease(asked)
    found = graveyard.look(asked)
    assert (asked.asked, [len(ended) for _, ended in found]) == (1, [2])
    assert [attempts_of(connection, job) for job in jobs] == [[], []]


def test_looks_grow_rarer_until_no_statement_can_lease_any_more(
    asked: Asked, clock: Clock
) -> None:
    graveyard, buried = Graveyard(SECONDS), clock.now
    graveyard.add(burial_of())
    pauses = []
    while graveyard.next_look() < math.inf:
        pauses.append(graveyard.next_look() - clock.now)
        clock.now = graveyard.next_look()
        graveyard.look(asked)
    assert pauses[:4] == [0.5, 1.0, 2.0, SECONDS / 8]
    assert max(pauses) == SECONDS / 8, "before a late lease can run out"
    assert asked.asked == len(pauses)
    assert clock.now - buried >= 2 * SECONDS


def test_a_look_that_an_outage_prevents_is_made_later(
    connection: Connection, asked: Asked, clock: Clock
) -> None:
    [job] = plant(connection)
    graveyard = Graveyard(SECONDS)
    graveyard.add(burial_of())
    lease(asked)
    asked.away = True
    clock.now += 3 * SECONDS
    with pytest.raises(DatabaseUnavailable):
        graveyard.look(asked)
    asked.away = False
    assert clock.now < graveyard.next_look() < math.inf
    graveyard.look(asked)
    assert status_of(connection, job) == "queued"


def test_only_a_process_buried_just_now_keeps_its_supervisor(clock: Clock) -> None:
    graveyard = Graveyard(SECONDS)
    assert not graveyard.young()
    graveyard.add(burial_of())
    assert graveyard.young()
    clock.now += SECONDS / 2
    assert not graveyard.young()


def test_jobs_come_back_from_a_dead_process_until_a_look_after_its_last_statement(
    asked: Asked, clock: Clock
) -> None:
    graveyard = Graveyard(SECONDS)
    assert graveyard.came_back_at() == -math.inf
    graveyard.expect(DEAD)
    graveyard.add(burial_of())
    graveyard.look(asked)
    clock.now += SECONDS / 2
    assert graveyard.came_back_at() == math.inf, "nothing has looked since"
    graveyard.look(asked)
    assert graveyard.came_back_at() == clock.now


@pytest.fixture
def upkeep(database: Database) -> Upkeep:
    settings = DatabaseSettings(database.url)
    return Upkeep(WorkerOptions(url=settings.url, lease_seconds=SECONDS), settings)


def test_a_supervisor_that_ends_looks_once_more(
    connection: Connection, repository: Repository, upkeep: Upkeep
) -> None:
    [job] = plant(connection)
    upkeep.graveyard.add(burial_of())
    lease(repository)
    upkeep.stopped.set()
    upkeep.run()
    assert status_of(connection, job) == "queued"
    assert attempts_of(connection, job) == []


def test_what_came_late_and_has_run_out_is_given_back_not_reaped(
    connection: Connection, repository: Repository, upkeep: Upkeep
) -> None:
    [job] = plant(connection)
    upkeep.graveyard.add(burial_of())
    lease(repository)
    expire_leases(connection)
    upkeep._reap(repository)
    assert attempts_of(connection, job) == []


def test_a_supervisor_does_not_reap_while_its_own_heartbeats_fail(
    connection: Connection, repository: Repository, upkeep: Upkeep
) -> None:
    """Else a lock of the table costs jobs that have not begun an attempt: it comes to
    their leases before the heartbeat that would extend them.
    """
    [job] = plant(connection)
    lease(repository)
    expire_leases(connection)
    failing = [5.0, 0.0, 0.0]
    upkeep.overdue_for = lambda: failing.pop(0)
    assert upkeep._reap(repository) > 0
    assert upkeep._reap(repository) > 0, "heartbeat and processes come first"
    assert status_of(connection, job) == "running"
    upkeep._served_since = -math.inf  # they had their time
    upkeep._reap(repository)
    assert status_of(connection, job) == "queued"
    assert attempts_of(connection, job) == [(1, "lost", "WORKER_LOST")]


def test_a_supervisor_whose_heartbeats_fail_for_good_reaps_all_the_same(
    connection: Connection, repository: Repository, upkeep: Upkeep
) -> None:
    [job] = plant(connection)
    lease(repository)
    expire_leases(connection)
    upkeep.overdue_for = lambda: WHILE_FAILING
    upkeep._reap(repository)
    assert status_of(connection, job) == "queued"


class Forgetful(Repository):
    """Loses the reply to the first burial, which the server has done."""

    lost = False

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._end = self.unsettled_leases.end_worker
        self.unsettled_leases.end_worker = self._lose  # type: ignore[method-assign]

    def _lose(self, worker_id: str, **how: Any) -> list[EndedJob]:
        ended = self._end(worker_id, **how)
        if not self.lost:
            self.lost = True
            raise OutcomeUnknown("no answer within 10 s")
        return ended


def test_a_burial_that_an_outage_hides_is_done_again(
    connection: Connection, repository: Repository, upkeep: Upkeep
) -> None:
    [job] = plant(connection)
    burial = burial_of(*lease(repository))
    forgetful = Forgetful(repository.link)
    task: Callable[[Repository], object] = burial.end
    upkeep.stopped.set()  # so that it waits for nothing
    upkeep._settle(task, forgetful)  # type: ignore[arg-type]
    lease(repository)
    assert upkeep._settle(task, forgetful)  # type: ignore[arg-type]
    assert attempts_of(connection, job) == [(1, "lost", "WORKER_LOST")]
    assert status_of(connection, job) == "queued"


def test_after_an_outage_processes_give_back_before_leases_are_reaped(
    connection: Connection,
    repository: Repository,
    upkeep: Upkeep,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lease whose reply the outage cut off is its worker's to give back."""
    [job] = plant(connection)
    [leased] = lease(repository)
    expire_leases(connection)

    def be_away() -> float:
        raise OutcomeUnknown("the connection was lost")

    upkeep._attempt(be_away)
    assert 0 < upkeep._attempt(lambda: upkeep._reap(repository)) <= 3.0
    assert 0 < upkeep._attempt(lambda: upkeep._reap(repository)) <= 3.0
    assert attempts_of(connection, job) == []
    repository.unsettled_leases.give_back_batches(DEAD, [batch_of(connection, leased)])
    monkeypatch.setattr("pgflow_cli.worker.background.AFTER_OUTAGE", 0.0)
    upkeep._attempt(lambda: upkeep._reap(repository))
    assert attempts_of(connection, job) == []
    assert status_of(connection, job) == "queued"


def batch_of(connection: Connection, leased: LeasedJob) -> str:
    [(batch_id,)] = connection.execute(
        "select batch_id::text from pgflow.leases where lease_id = %s",
        [leased.lease_id],
    ).fetchall()
    return str(batch_id)


def test_a_reaper_that_saw_an_outage_reaps_soon(
    connection: Connection,
    repository: Repository,
    upkeep: Upkeep,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [job] = plant(connection)
    lease(repository)
    expire_leases(connection)

    def be_away() -> float:
        raise DatabaseUnavailable("the server is away")

    upkeep._attempt(be_away)
    upkeep._attempt(lambda: upkeep._reap(repository))
    monkeypatch.setattr("pgflow_cli.worker.background.AFTER_OUTAGE", 0.0)
    upkeep._attempt(lambda: upkeep._reap(repository))
    assert [status for _, status, _ in attempts_of(connection, job)] == ["lost"]
