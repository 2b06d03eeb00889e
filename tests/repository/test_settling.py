"""What a worker process does with an outcome that the database does not take, and with
a statement whose reply it never sees.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import OutcomeUnknown
from pgflow_cli.handlers import App, Fail, Job
from pgflow_cli.models.jobs import LeasedJob, LeaseReply, LeaseRequest
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Link, Repository
from pgflow_cli.repository.leases import Leases
from pgflow_cli.worker.execution.slots import Slots
from pgflow_cli.worker.leasing import capacity, loop, outcomes
from pgflow_cli.worker.leasing.capacity import Capacity
from pgflow_cli.worker.leasing.loop import LeaseLoop
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.shared_memory import SharedMemory
from tests.support.jobs import (
    attempts_of,
    audit,
    expire_leases,
    new_worker,
    plant,
    status_of,
)
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Wait = Callable[..., Any]

app = App()


@app.handler("noop")
def noop(job: Job) -> None:
    pass


@app.handler("parent")
def parent(job: Job) -> None:
    job.enqueue("child", {})


@app.handler("parent_of_large")
def parent_of_large(job: Job) -> None:
    job.enqueue("child", {"text": "x" * 300_000})


@app.handler("hopeless")
def hopeless(job: Job) -> None:
    raise Fail(code="NON_RETRYABLE", message="no such customer")


gates: dict[str, threading.Event] = {}


@app.handler("gated")
def gated(job: Job) -> None:
    gates[job.id].wait()


class Process:
    """A worker process's cycle, slots and board; a test turns it."""

    def __init__(self, repository: Repository, **settings: Any) -> None:
        self.options = WorkerOptions(
            "", **{"queues": None, "poll": 0.01, "concurrency": 2, **settings}
        )
        context = multiprocessing.get_context("spawn")
        places = self.options.places
        self.memory = SharedMemory.create(context, runs=places, leases=places)
        self.memory.renew(time.monotonic())
        self.slots = Slots(self.options.concurrency, self.memory, lambda _: [])
        remaining = context.Value("q", -1)
        self.capacity = Capacity(self.options, self.memory, app, self.slots, remaining)
        self.worker_id = new_worker()
        self.cycle = LeaseLoop(
            self.capacity,
            repository,
            worker_id=self.worker_id,
            worker_name="worker-1",
            primary=True,
        )

    def turn_until(self, wait_until: Wait, reached: Callable[[], bool]) -> None:
        """Turn until something has come about."""

        def turned() -> bool:
            self.cycle.take_turn()
            return reached()

        wait_until(turned, "a turn brings it about")


@pytest.fixture
def process(repository: Repository) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(used: Repository | None = None, **settings: Any) -> Process:
        made.append(Process(used or repository, **settings))
        return made[-1]

    yield make
    for gate in gates.values():
        gate.set()
    gates.clear()
    for each in made:
        each.slots.stop()


@pytest.fixture(autouse=True)
def _every_trial_ends_with_the_audit(connection: Connection) -> Iterator[None]:
    yield
    assert audit(connection) == (0, 0)


def refuse(connection: Connection, table: str, condition: str, using: str = "") -> None:
    """Have a trigger refuse new rows of a table."""
    connection.execute(
        f"""
        create or replace function public.refuse_{table}() returns trigger
        language plpgsql as $$ begin
          if {condition} then raise exception 'no, says the trigger' {using}; end if;
          return new;
        end $$;
        create trigger refuse before insert on pgflow.{table}
        for each row execute function public.refuse_{table}()
        """
    )


def test_followers_that_the_gate_refuses_fail_their_parent_with_its_code(
    connection: Connection, process: Callable[..., Process], wait_until: Wait
) -> None:
    [job] = plant(connection, job_type="parent_of_large", max_attempts=2)
    process().turn_until(wait_until, lambda: bool(attempts_of(connection, job)))
    assert attempts_of(connection, job) == [(1, "failed", "PAYLOAD_TOO_LARGE")]
    row = connection.execute(
        "select error_message from pgflow.job_attempts where job_id = %s", (job,)
    ).fetchone()
    assert "takes at most 262144 (max_payload_bytes)" in str(row)


def test_a_refused_outcome_becomes_a_failure_beside_a_mate_that_still_runs(
    connection: Connection, process: Callable[..., Process], wait_until: Wait
) -> None:
    refuse(connection, "dead_letters", "true")
    [mate] = plant(connection, job_type="gated")
    [job] = plant(connection, job_type="hopeless", max_attempts=2)
    gates[mate] = threading.Event()
    worker = process()
    worker.turn_until(wait_until, lambda: bool(attempts_of(connection, job)))
    assert attempts_of(connection, job) == [(1, "failed", "OUTCOME_REFUSED")]
    row = connection.execute(
        "select error_message from pgflow.job_attempts where job_id = %s", (job,)
    ).fetchone()
    assert row == (
        "the database refused the outcome of this attempt:"
        " no, says the trigger (SQLSTATE P0001)",
    )
    assert status_of(connection, job) == "scheduled"
    assert status_of(connection, mate) == "running"
    assert [run.job_id for run in worker.memory.unsettled()] == [mate]


@pytest.mark.parametrize("code", ["42501", "PF001"])
def test_what_a_trigger_may_not_do_is_refused_to_its_job_alone(
    connection: Connection,
    process: Callable[..., Process],
    wait_until: Wait,
    code: str,
) -> None:
    """It reads a table without a grant, or enqueues, and a guard of ours says no."""
    refuse(connection, "dead_letters", "true", f"using errcode = '{code}'")
    [job] = plant(connection, job_type="hopeless", max_attempts=2)
    [mate] = plant(connection)
    worker = process()
    worker.turn_until(
        wait_until,
        lambda: bool(attempts_of(connection, job) and attempts_of(connection, mate)),
    )
    assert attempts_of(connection, job) == [(1, "failed", "OUTCOME_REFUSED")]
    assert status_of(connection, mate) == "succeeded"


def test_a_lease_that_is_refused_is_tried_again_less_and_less_often(
    connection: Connection,
    process: Callable[..., Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(connection, "leases", "true")
    plant(connection)
    worker = process()
    pauses: list[float] = []
    monkeypatch.setattr(worker.capacity, "rest", pauses.append)
    for _ in range(6):
        worker.cycle.take_turn()
    assert pauses[0] <= 0.2
    assert pauses[-1] >= 0.5


def test_a_pause_after_a_failure_ends_when_its_process_begins_to_end(
    connection: Connection,
    process: Callable[..., Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class EndsMeanwhile(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return super().wait(timeout)

    slept: list[float] = []
    monkeypatch.setattr(capacity, "sleep", slept.append)
    monkeypatch.setattr(loop, "uniform", lambda *_: 60.0)
    refuse(connection, "leases", "true")
    plant(connection)
    worker = process()
    worker.capacity._ended = EndsMeanwhile()
    worker.cycle.take_turn()
    assert (worker.capacity.ending, slept) == (True, [])
    # From then on, to go on at once would be to ask without a pause.
    worker.capacity.rest(1.0)
    assert slept == [1.0]


@pytest.mark.parametrize("code", ["40001", "57014", "57P01", "53300", "25006"])
def test_a_trigger_that_raises_what_an_outage_raises_holds_up_its_own_job_alone(
    connection: Connection,
    process: Callable[..., Process],
    wait_until: Wait,
    code: str,
) -> None:
    refuse(connection, "dead_letters", "true", f"using errcode = '{code}'")
    [job] = plant(connection, job_type="hopeless", max_attempts=2)
    mates = plant(connection, 5)
    worker = process()
    worker.turn_until(
        wait_until,
        lambda: all(status_of(connection, mate) == "succeeded" for mate in mates),
    )
    assert status_of(connection, job) == "running"
    connection.execute("drop trigger refuse on pgflow.dead_letters")
    worker.turn_until(wait_until, lambda: status_of(connection, job) == "dlq")


def test_an_outcome_that_only_ever_meets_an_outage_of_its_own_becomes_a_failure(
    connection: Connection,
    process: Callable[..., Process],
    wait_until: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outcomes, "LONGEST_ASIDE", 0.0)
    refuse(connection, "dead_letters", "true", "using errcode = '40P01'")
    [job] = plant(connection, job_type="hopeless", max_attempts=2)
    worker = process()
    worker.turn_until(wait_until, lambda: bool(attempts_of(connection, job)))
    assert attempts_of(connection, job) == [(1, "failed", "OUTCOME_REFUSED")]


def test_an_outcome_that_is_too_slow_each_time_becomes_a_failure(
    connection: Connection,
    process: Callable[..., Process],
    wait_until: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outcomes, "LONGEST_ASIDE", 0.0)
    monkeypatch.setattr(outcomes, "LONGEST_SLOW", 0.0)
    refuse(connection, "dead_letters", "true", "using errcode = '57014'")
    [job] = plant(connection, job_type="hopeless", max_attempts=2)
    worker = process()
    worker.turn_until(wait_until, lambda: bool(attempts_of(connection, job)))
    assert attempts_of(connection, job) == [(1, "failed", "OUTCOME_REFUSED")]


@pytest.mark.parametrize(
    ("job_type", "table", "condition"),
    [("hopeless", "dead_letters", "true"), ("parent", "pending", "new.attempt_no = 0")],
)
@pytest.mark.parametrize("code", ["57014", "55P03"])
def test_what_is_due_is_leased_between_tries_of_slow_outcomes(
    connection: Connection,
    process: Callable[..., Process],
    wait_until: Wait,
    caplog: pytest.LogCaptureFixture,
    job_type: str,
    table: str,
    condition: str,
    code: str,
) -> None:
    """One after the other, each may take a third of a lease."""
    worker = process(concurrency=8)
    plant(connection, 8, job_type=job_type)
    worker.turn_until(wait_until, lambda: worker.capacity.in_flight == 8)
    wait_until(lambda: len(worker.cycle._results) == 8, "all have ended")
    [mate] = plant(connection)
    refuse(connection, table, condition, f"using errcode = '{code}'")
    worker.turn_until(wait_until, lambda: status_of(connection, mate) != "queued")
    events = [getattr(record, "event", "") for record in caplog.records]
    assert events.count("outcome_postponed") <= 2
    connection.execute(f"drop trigger refuse on pgflow.{table}")
    worker.turn_until(wait_until, lambda: worker.capacity.in_flight == 0)
    assert status_of(connection, mate) == "succeeded"


@pytest.mark.parametrize("code", ["57014", "55P03"])
def test_an_outcome_that_may_wait_for_a_lock_is_tried_until_its_time_is_up(
    connection: Connection,
    process: Callable[..., Process],
    wait_until: Wait,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
) -> None:
    monkeypatch.setattr(outcomes, "LONGEST_ASIDE", 0.0)
    connection.execute("create sequence public.tries")
    refuse(
        connection,
        "dead_letters",
        "nextval('public.tries') > 0",
        f"using errcode = '{code}'",
    )
    [job] = plant(connection, job_type="hopeless", max_attempts=2)
    worker = process()

    def tried() -> bool:
        row = connection.execute("select last_value from public.tries").fetchone()
        return row is not None and int(row[0]) > 4 * outcomes.MOST_TRIES

    worker.turn_until(wait_until, tried)
    assert attempts_of(connection, job) == []
    connection.execute("drop trigger refuse on pgflow.dead_letters")
    worker.turn_until(wait_until, lambda: status_of(connection, job) == "dlq")


@pytest.mark.parametrize("code", ["P0001", "57014", "40P01"])
def test_an_attempt_of_which_nothing_is_taken_is_left_to_a_reaper_and_counts(
    connection: Connection,
    repository: Repository,
    process: Callable[..., Process],
    wait_until: Wait,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
) -> None:
    """It has started, also if its process dies before a reaper comes."""
    monkeypatch.setattr(outcomes, "LONGEST_ASIDE", 0.0)
    monkeypatch.setattr(outcomes, "LONGEST_SLOW", 0.0)
    using = f"using errcode = '{code}'"
    refuse(connection, "job_attempts", "new.status = 'failed'", using)
    # Nor is it left in a lease of its own.
    refuse(connection, "leases", "new.expires_at <= now()", using)
    jobs = [plant(connection, job_type=t)[0] for t in ("gated", "hopeless")]
    mate, job = jobs
    gates[mate] = threading.Event()
    # By then a reaper has come.
    worker = process(lease_seconds=600.0, reap_interval=0.0)
    worker.turn_until(wait_until, lambda: bool(worker.cycle._forsaken))
    assert leases(connection) == {mate: True, job: True}
    gates[mate].set()
    worker.turn_until(wait_until, lambda: status_of(connection, mate) == "succeeded")
    # No heartbeat renews the lease, and a process that dies now is charged.
    assert worker.memory.held() == {}
    assert [run.job_id for run in worker.memory.unsettled()] == [job]
    assert worker.capacity.in_flight == 1
    connection.execute("drop trigger refuse on pgflow.leases")
    expire_leases(connection)
    [reaped] = repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert (reaped.job_id, reaped.started) == (job, True)
    assert attempts_of(connection, job) == [(1, "lost", "WORKER_LOST")]
    worker.cycle._forsaken[0].until = time.monotonic()
    worker.capacity.quiet = True
    worker.turn_until(wait_until, lambda: worker.capacity.in_flight == 0)
    assert worker.memory.unsettled() == []


def test_a_process_that_ends_waits_for_no_reaper(
    connection: Connection, process: Callable[..., Process], wait_until: Wait
) -> None:
    refuse(connection, "job_attempts", "new.status = 'failed'")
    refuse(connection, "leases", "new.expires_at <= now()")
    [job] = plant(connection, job_type="hopeless")
    worker = process(lease_seconds=600.0)
    worker.turn_until(wait_until, lambda: bool(worker.cycle._forsaken))
    assert not worker.capacity.finished()
    worker.capacity.ending = True
    worker.turn_until(wait_until, worker.capacity.finished)
    assert [run.job_id for run in worker.memory.unsettled()] == [job]


def test_an_outcome_that_is_refused_twice_leaves_the_lease_that_its_mate_keeps(
    connection: Connection,
    repository: Repository,
    process: Callable[..., Process],
    wait_until: Wait,
) -> None:
    refuse(connection, "job_attempts", "new.status = 'failed'")
    [mate] = plant(connection, job_type="gated")
    [job] = plant(connection, job_type="hopeless")
    gates[mate] = threading.Event()
    worker = process()
    left = {mate: True, job: False}
    worker.turn_until(wait_until, lambda: leases(connection) == left)
    [reaped] = repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert reaped.job_id == job
    gates[mate].set()
    worker.turn_until(wait_until, lambda: status_of(connection, mate) == "succeeded")


def leases(connection: Connection) -> dict[str, bool]:
    """Return each leased job, and whether its lease is one to be renewed."""
    rows = connection.execute(
        "select unnest(job_ids)::text, expires_at > now() from pgflow.leases"
    ).fetchall()
    return dict(rows)


def test_a_stale_outcome_is_left_to_a_reaper_at_once(
    connection: Connection,
    repository: Repository,
    process: Callable[..., Process],
    wait_until: Wait,
) -> None:
    [mate, job] = [plant(connection, job_type="gated")[0] for _ in range(2)]
    gates[mate], gates[job] = threading.Event(), threading.Event()
    worker = process()
    worker.turn_until(wait_until, lambda: len(worker.memory.running()) == 2)
    [(lease_id, place)] = worker.memory.held().items()
    # No heartbeat has come through for a lease's time.
    worker.memory.extend(lease_id, place, time.monotonic())
    gates[job].set()
    left = {mate: True, job: False}
    worker.turn_until(wait_until, lambda: leases(connection) == left)
    worker.memory.extend(lease_id, place, time.monotonic() + 60)
    gates[mate].set()
    worker.turn_until(wait_until, lambda: status_of(connection, mate) == "succeeded")
    assert leases(connection) == {job: False}


def test_a_place_stays_taken_until_the_settlement_is_confirmed(
    connection: Connection,
    database: Database,
    process: Callable[..., Process],
    wait_until: Wait,
) -> None:
    """What a process that dies here leaves on the board counts as lost."""
    seen: list[list[str]] = []

    class Watched(Leases):
        def settle_and_lease(self, cycle: LeaseRequest) -> LeaseReply:
            reply = super().settle_and_lease(cycle)
            if cycle.settlements:
                seen.append([run.job_id for run in worker.memory.unsettled()])
            return reply

    [job] = plant(connection)
    watched = Repository(Link(DatabaseSettings(database.url)))
    watched.leases = Watched(watched.link)
    worker = process(watched)
    worker.turn_until(wait_until, lambda: status_of(connection, job) == "succeeded")
    watched.close()
    assert seen == [[job]]
    assert worker.memory.unsettled() == []
    assert worker.memory.held() == {}


class Severed(Repository):
    """Loses the reply of some calls; the server runs them when the test says so."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._lease = self.leases.settle_and_lease
        self._lease_limited = self.leases.lease_limited
        self.leases.settle_and_lease = self._settle_and_lease  # type: ignore[method-assign]
        self.leases.lease_limited = self._lease_from_limited  # type: ignore[method-assign]
        self.wanted: Callable[[LeaseRequest], bool] = lambda _: False
        self.limited = False  # whether it is a lease from queues with a limit
        self.cut: list[LeaseRequest] = []

    def _settle_and_lease(self, cycle: LeaseRequest) -> LeaseReply:
        if not self.limited:
            self._perhaps_cut(cycle)
        return self._lease(cycle)

    def _lease_from_limited(self, cycle: LeaseRequest) -> list[LeasedJob]:
        if self.limited:
            self._perhaps_cut(cycle)
        return self._lease_limited(cycle)

    def _perhaps_cut(self, cycle: LeaseRequest) -> None:
        if not self.cut and self.wanted(cycle):
            self.cut.append(cycle)
            raise OutcomeUnknown("no answer within 3.3 s")


@pytest.fixture
def severed(database: Database) -> Iterator[Severed]:
    made = Severed(Link(DatabaseSettings(database.url)))
    yield made
    made.close()


@pytest.mark.parametrize("limited", [False, True])
def test_what_a_late_commit_leased_is_given_back_uncharged(
    connection: Connection,
    repository: Repository,
    severed: Severed,
    process: Callable[..., Process],
    wait_until: Wait,
    limited: bool,
) -> None:
    if limited:
        connection.execute(
            "insert into pgflow.queue_policies (queue, max_in_flight)"
            " values ('default', 5)"
        )
        plant(connection)
    severed.wanted, severed.limited = lambda cycle: bool(cycle.room), limited
    worker = process(severed)
    worker.turn_until(wait_until, lambda: bool(severed.cut))
    worker.cycle.take_turn()  # looks for it, and finds nothing yet
    assert worker.capacity.doubts.pressing(time.monotonic())
    [job] = plant(connection)
    lease = (
        repository.leases.lease_limited
        if limited
        else repository.leases.settle_and_lease
    )
    lease(replace(severed.cut[0], settlements=[], closed=[], job_types=["noop"]))
    assert status_of(connection, job) == "running"
    worker.turn_until(wait_until, lambda: status_of(connection, job) == "succeeded")
    assert attempts_of(connection, job) == [(1, "succeeded", None)]
    assert not worker.capacity.doubts.pressing(time.monotonic())


def test_a_process_in_doubt_does_not_end(
    connection: Connection,
    severed: Severed,
    process: Callable[..., Process],
    wait_until: Wait,
) -> None:
    severed.wanted = lambda cycle: bool(cycle.room)
    worker = process(severed, lease_seconds=0.5)
    worker.turn_until(wait_until, lambda: bool(severed.cut))
    worker.capacity.ending = True
    assert not worker.capacity.finished()
    worker.turn_until(wait_until, worker.capacity.finished)


def test_jobs_given_back_twice_because_the_first_reply_was_lost_exist_once(
    connection: Connection,
    repository: Repository,
    severed: Severed,
    process: Callable[..., Process],
    wait_until: Wait,
) -> None:
    """The first run is still at work on the server when the second one comes."""
    [mate, job] = [plant(connection, job_type="gated")[0] for _ in range(2)]
    gates[mate] = threading.Event()
    worker = process(severed, concurrency=1)
    worker.turn_until(wait_until, lambda: len(worker.memory.running()) == 1)
    severed.wanted = lambda cycle: bool(cycle.settlements)
    worker.capacity.quiet = True
    worker.capacity.give_back(worker.slots.give_back())
    worker.turn_until(wait_until, lambda: bool(severed.cut))
    [first] = severed.cut
    assert [s.status for s in first.settlements] == ["unstarted"]
    with ThreadPoolExecutor() as pool:
        with repository.transaction():
            repository.leases.settle_and_lease(first)
            turning = pool.submit(worker.cycle.take_turn)
            wait_until(
                lambda: connection.execute(
                    "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
                ).fetchone(),
                "the second run waits for the first",
            )
        turning.result()
    assert status_of(connection, job) == "queued"
    assert worker.capacity.in_flight == 1
    gates[mate].set()
    worker.turn_until(wait_until, lambda: status_of(connection, mate) == "succeeded")


def test_a_parent_keeps_its_followers_until_its_lease_is_closed(
    connection: Connection,
    severed: Severed,
    process: Callable[..., Process],
    wait_until: Wait,
) -> None:
    """A failover loses the commit of parent and followers, after it was confirmed and
    before the lease was closed.
    """
    [job] = plant(connection, job_type="parent")
    severed.wanted = lambda cycle: bool(cycle.settlements)
    worker = process(severed)
    worker.turn_until(wait_until, lambda: bool(severed.cut))
    [closing] = severed.cut
    assert [s.status for s in closing.settlements] == ["left"]
    # What the promoted standby does not have.
    connection.execute("delete from pgflow.job_successes")
    connection.execute(
        "update pgflow.leases set job_ids = array[%s::uuid], attempt_nos = '{1}'",
        (job,),
    )
    connection.execute("delete from pgflow.pending where job_type = 'child'")
    connection.execute("delete from pgflow.jobs where job_type = 'child'")
    worker.turn_until(wait_until, lambda: leases(connection) == {})
    assert status_of(connection, job) == "succeeded"
    row = connection.execute(
        "select count(*) from pgflow.jobs where job_type = 'child'"
    ).fetchone()
    assert row == (1,)


def test_an_outage_in_the_middle_of_refused_outcomes_settles_each_once(
    connection: Connection,
    severed: Severed,
    process: Callable[..., Process],
    wait_until: Wait,
) -> None:
    refuse(connection, "job_attempts", "new.error_code = 'NON_RETRYABLE'")
    jobs = [*plant(connection, 3), *plant(connection, 1, job_type="hopeless")]
    # The one after the first that was settled alone.
    alone: list[LeaseRequest] = []

    def second_alone(cycle: LeaseRequest) -> bool:
        if len(cycle.settlements) == 1 and not cycle.room:
            alone.append(cycle)
        return len(alone) == 2

    severed.wanted = second_alone
    worker = process(severed, concurrency=4)
    worker.turn_until(
        wait_until, lambda: all(attempts_of(connection, job) for job in jobs)
    )
    worker.turn_until(wait_until, lambda: worker.capacity.in_flight == 0)
    assert [len(attempts_of(connection, job)) for job in jobs] == [1, 1, 1, 1]
    assert worker.memory.held() == {}
    assert worker.memory.unsettled() == []
