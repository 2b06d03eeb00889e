"""Plays the real statements of several sessions in a given order of their steps.

A step is one statement, or the end of a transaction. A session that waits for a lock is
seen to wait before another goes on: nothing here depends on who is faster. The server
itself tells that it waits, as `log_lock_waits` has it: to ask again and again takes
longer than all statements.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, islice
from typing import Any

import psycopg

from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import Suspect
from pgflow_cli.repository import Database, Repository, sqlfiles
from tests.trials import world

Connection = psycopg.Connection[Any]

# Waits are told and deadlocks found at once, real ones after a second. What is told
# goes to the client, and in no log.
_SETTINGS = {
    "deadlock_timeout": "1ms",
    "log_lock_waits": "on",
    "client_min_messages": "log",
    "log_min_messages": "fatal",
    "lc_messages": "C",
}
_WAITS = "still waiting for"
_PATIENCE = 60.0
_OPERATOR = Operator("trial", "trial")
_MESSAGE = "the worker stopped reporting"


@dataclass(frozen=True)
class Operation:
    """What one session does, and in how many statements."""

    name: str
    act: Callable[[Repository], object]
    statements: int = 1
    turn: str = ""  # of the worker: "first" or "again"


class _RolledBack(Exception):
    """Ends a transaction without its changes."""


class Session:
    """Runs an operation in a transaction and a thread of its own, step by step."""

    def __init__(self, repository: Repository, pid: int) -> None:
        self._repository, self.pid = repository, pid
        self._act: Callable[[Repository], object] = lambda _: None
        self._commits = True
        self._allowed = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self.resting = threading.Event()  # before a step, or at the end
        self.stands = threading.Event()  # rests, or has begun to wait for a lock
        self.ended = True
        self.error: Exception | None = None
        repository.link.raw().add_notice_handler(self._hear)
        self._execute = repository.link.execute
        repository.link.execute = self._one_statement  # type: ignore[method-assign]

    def begin(self, act: Callable[[Repository], object], *, commits: bool) -> None:
        """Be ready for the first step of an operation."""
        self._act, self._commits = act, commits
        self.ended, self.error = False, None
        self.resting.clear()
        self.stands.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self.resting.wait(_PATIENCE)

    def go_on(self) -> None:
        """Allow the next step."""
        self.resting.clear()
        self.stands.clear()
        self._allowed.release()

    def join(self) -> None:
        """Wait for the end of its thread."""
        assert self._thread is not None
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self._repository.close()

    def _run(self) -> None:
        try:
            with self._repository.transaction():
                self._act(self._repository)
                self._wait()
                if not self._commits:
                    raise _RolledBack
        except _RolledBack:
            pass
        except Exception as error:
            self.error = error
        self.ended = True
        self._rest()

    def _one_statement(self, *arguments: Any, **named: Any) -> Any:
        if not self.ended:
            self._wait()
        return self._execute(*arguments, **named)

    def _wait(self) -> None:
        self._rest()
        self._allowed.acquire()

    def _rest(self) -> None:
        self.resting.set()
        self.stands.set()

    def _hear(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if _WAITS in (diagnostic.message_primary or ""):
            self.stands.set()


class Theatre:
    """Sessions of one database, and connections that plant and watch."""

    def __init__(self, url: str, *, sessions: int = 2) -> None:
        self._watching = psycopg.connect(url, autocommit=True)
        # Always in the role of planting: to change it makes a session forget its plans.
        self._planting = psycopg.connect(url, autocommit=True)
        self._planting.execute("set session_replication_role = replica")
        self.sessions = [self._session(url) for _ in range(sessions)]

    def close(self) -> None:
        """Close every connection."""
        for session in self.sessions:
            session.close()
        self._planting.close()
        self._watching.close()

    def play(
        self,
        operations: Sequence[Operation],
        order: Sequence[int],
        rolled_back: int | None = None,
        planted: str = "",
    ) -> list[str]:
        """Plant the world, and more by `planted`; play an order, and return what is
        wrong afterwards.
        """
        world.plant(self._planting)
        if planted:
            self._watching.execute(planted.encode())
        for number, operation in enumerate(operations):
            self.sessions[number].begin(operation.act, commits=number != rolled_back)
        taking_part = self.sessions[: len(operations)]
        for number in order:
            self._step(taking_part[number])
        self._finish(taking_part)
        for session in taking_part:
            session.join()
        errors = [str(session.error) for session in taking_part if session.error]
        return errors + wrongs(self._watching) + self._wrongs_at_rest()

    def _session(self, url: str) -> Session:
        # A worker's plans, made once: else it is planning that takes the time.
        repository = Repository.of(Database(url, steady_plans=True))
        connection = repository.link.raw()
        connection.prepared_max = 100
        for setting in _SETTINGS.items():
            connection.execute("select set_config(%s, %s, false)", setting)
        return Session(repository, connection.info.backend_pid)

    def _step(self, session: Session) -> None:
        """Let a session take a step, unless it has ended or waits for a lock."""
        if self._settles(session) and not session.ended:
            session.go_on()
            self._settles(session)

    def _settles(self, session: Session) -> bool:
        """Wait until a session rests or waits for a lock; return whether it rests."""
        while True:
            assert session.stands.wait(_PATIENCE), "a statement does not end"
            if session.resting.is_set():
                return True
            # It may have got since then what it waited for, and may rest or wait again.
            session.stands.clear()
            if session.resting.is_set() or self._waits(session):
                session.stands.set()
                return session.resting.is_set()

    def _waits(self, session: Session) -> bool:
        text = "select cardinality(pg_blocking_pids(%s)) > 0"
        row = self._watching.execute(text, (session.pid,)).fetchone()
        return row is not None and bool(row[0])

    def _finish(self, sessions: Sequence[Session]) -> None:
        """Take the steps that are left, those first that wait for nothing."""
        deadline = time.monotonic() + _PATIENCE
        while not all(session.ended for session in sessions):
            for session in sessions:
                self._step(session)
            assert time.monotonic() < deadline, "the sessions wait for each other"

    def _wrongs_at_rest(self) -> list[str]:
        """Reap what is left, as happens in the end: no job of theirs runs then."""
        if self._watching.execute(_EXPIRE).rowcount == 0:
            return []  # and nothing changes
        reaper = self.sessions[0]
        reaper.begin(reap, commits=True)
        self._finish([reaper])
        reaper.join()
        found = wrongs(self._watching)
        found += [str(reaper.error)] if reaper.error else []
        # Names are only asked for if there are any.
        if self._watching.execute(_EXPIRE).rowcount:
            for name, places in world.describe(self._watching).items():
                if name != "stranger" and re.search(r"\bleased\b", places):
                    found.append(f"{name} stays leased")
        return [f"once reaped: {wrong}" for wrong in found]


# Another worker's, which nothing here touches, stays.
_EXPIRE = f"""
update pgflow.leases set expires_at = '-infinity' where lease_id <> '{world.FOREIGN}'
"""


def wrongs(connection: Connection) -> list[str]:
    """Return what no order of statements may lead to."""
    audit = sqlfiles.statement("audit_jobs").text
    row = connection.execute(audit).fetchone()
    assert row is not None
    in_no_place, in_two, without, _examples = row
    found = [
        f"{count} jobs {what}"
        for count, what in (
            (in_no_place, "in no place"),
            (in_two, "in two places"),
            (without, "that do not exist"),
        )
        if count
    ]
    found += [str(row[0]) for row in connection.execute(_WRONGS).fetchall()]
    if found:
        found.append(str(world.describe(connection)))
    return found


_WRONGS = f"""
select 'attempts of ' || job_id || ' are not numbered without a gap'
from pgflow.any_attempts
group by job_id
having max(attempt_no) <> count(*)
union all
select job_id || ' waits with ' || attempt_no || ' attempts and has other rows'
from pgflow.pending
where attempt_no <> (
  select count(*) from pgflow.any_attempts as attempt
  where attempt.job_id = pending.job_id
)
union all
select 'two outcomes of ' || job_id || ' under one lease'
from pgflow.any_attempts
group by job_id, lease_id
having count(*) > 1
union all
select job_id || ' began before it was leased, or ended before it began'
from pgflow.any_attempts
where lease_id = '{world.LEASE}'
  and (started_at < (select created_at from pgflow.jobs where id = job_id)
    + interval '40 seconds' - interval '1 millisecond' or finished_at < started_at)
union all
select 'too many in flight: ' || in_flight
from pgflow.queue_usage
where in_flight > max_in_flight
union all
select 'a dead letter of ' || job_id || ' without its failed attempt'
from pgflow.dead_letters
where not exists (
  select from pgflow.any_attempts as attempt
  where attempt.job_id = dead_letters.job_id
    and attempt.attempt_no = dead_letters.attempt_no
    and attempt.status in ('failed', 'lost')
)
union all
select count(*) || ' followers, ' || (
  select count(*) from pgflow.any_attempts
  where job_id = '{world.JOB["first"]}' and status = 'succeeded'
    and code_version = 'followed'
) || ' parents'
from pgflow.jobs
where job_type = 'follower'
having count(*) <> (
  select count(*) from pgflow.any_attempts
  where job_id = '{world.JOB["first"]}' and status = 'succeeded'
    and code_version = 'followed'
)
"""


def orders(lengths: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield every order of the steps of sessions that take so many."""
    if len(lengths) == 1:
        yield (0,) * lengths[0]
        return
    total = sum(lengths)
    for places in combinations(range(total), lengths[-1]):
        for rest in orders(lengths[:-1]):
            others = iter(rest)
            last = len(lengths) - 1
            yield tuple(last if n in places else next(others) for n in range(total))


def meet(operations: Sequence[Operation]) -> bool:
    """Return whether they may be at work at once: about one lease a worker sends one
    turn at a time, and a repetition, which waits for the first run.
    """
    turns = [operation.turn for operation in operations if operation.turn]
    return len(turns) == len(set(turns))


def while_held(operations: Sequence[Operation]) -> tuple[int, ...]:
    """Return the order in which each does all it does, and then they end in turn."""
    work = [(n,) * operation.statements for n, operation in enumerate(operations)]
    return (*sum(work, ()), *range(len(operations)))


def told(found: Mapping[Any, list[str]]) -> str:
    """Return a few of the orders that went wrong, and what was wrong."""
    return "\n".join(f"{key}: {wrong}" for key, wrong in islice(found.items(), 9))


# What sessions do. Each is a call of the repository as the program makes it.


def settle_some(repository: Repository) -> object:
    return repository.leases.settle_and_lease(
        world.cycle(world.success("first"), world.retry("second"))
    )


def settle_all(repository: Repository, **changes: Any) -> object:
    return repository.leases.settle_and_lease(
        world.cycle(
            world.success("first"),
            world.death("second"),
            world.unstarted("third"),
            world.success("fourth", status="released", delay=0.0),
            closed=[world.LEASE],
            **changes,
        )
    )


def settle_believing(repository: Repository) -> object:
    """Settle one job, believing that nothing else is left in its lease."""
    return repository.leases.settle_and_lease(
        world.cycle(world.success("first"), closed=[world.LEASE])
    )


def leave(repository: Repository, **changes: Any) -> object:
    """Leave one job behind, and settle another."""
    return repository.leases.settle_and_lease(
        world.cycle(world.left("first"), world.success("second"), **changes)
    )


def give_back(repository: Repository, **changes: Any) -> object:
    return repository.leases.settle_and_lease(
        world.cycle(world.unstarted("third"), world.unstarted("fourth"), **changes)
    )


def take_over(repository: Repository) -> object:
    """Take one job over into a lease of another process; neither runs it yet."""
    suspect = Suspect(
        world.WORKER, world.LEASE, world.JOB["third"], 0, "2026-11-30 00:00:00"
    )
    return repository.leases.take_over_job(world.cycle(worker_id=world.OTHER), suspect)


def lease(repository: Repository) -> object:
    return repository.leases.settle_and_lease(world.cycle(room=3))


def settle_and_lease(repository: Repository) -> object:
    return repository.leases.settle_and_lease(
        world.cycle(world.success("first"), room=1)
    )


def lease_limited(repository: Repository) -> object:
    return repository.leases.lease_limited(world.cycle(room=5, queues=[world.LIMITED]))


def settle_and_enqueue(repository: Repository, **changes: Any) -> object:
    return repository.leases.settle_and_enqueue(
        world.cycle(code_version="followed", **changes),
        world.success("first"),
        [{"job_type": "follower", "payload_json": {}}],
        max_payload_bytes=1000,
        max_enqueue_per_minute=0,
    )


def beat(repository: Repository) -> object:
    return repository.leases.beat(**world.heartbeat([world.LEASE]))


def reap(repository: Repository) -> object:
    return repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)


def end_worker(repository: Repository) -> object:
    return repository.unsettled_leases.end_worker(
        world.WORKER,
        status="lost",
        started=[(world.JOB["first"], 1), (world.JOB["second"], 1)],
        crash_budget=3,
        error_code="WORKER_LOST",
        error_message="exit code 9",
    )


def give_back_batch(repository: Repository) -> object:
    return repository.unsettled_leases.give_back_batches(world.WORKER, [world.BATCH])


def cancel_running(repository: Repository) -> object:
    wanted = [world.JOB["first"], world.JOB["third"]]
    return repository.jobs.cancel_running_jobs(wanted, operator=_OPERATOR, action_id=1)


def cancel_waiting(repository: Repository) -> object:
    wanted = [world.JOB["fifth"], world.JOB["third"], world.JOB["seventh"]]
    return repository.jobs.cancel_waiting_jobs(wanted, operator=_OPERATOR, action_id=1)


def reprioritize(repository: Repository) -> object:
    wanted = [world.JOB["fifth"], world.JOB["third"], world.JOB["second"]]
    return repository.jobs.reprioritize_jobs(wanted, priority=5)


def accept_interrupted(repository: Repository) -> object:
    return repository.unsettled_leases.end_interrupted_leases(
        status="released", error_code=None, error_message=_MESSAGE
    )


OPERATIONS = [
    Operation("settle some", settle_some, turn="first"),
    Operation("settle all", settle_all, turn="first"),
    Operation("settle believing", settle_believing, turn="first"),
    Operation("give back", give_back, turn="first"),
    Operation("leave", leave, turn="first"),
    Operation("settle and lease", settle_and_lease, turn="first"),
    Operation("settle and enqueue", settle_and_enqueue, turn="first"),
    *(
        Operation(
            act.__name__.replace("_", " ") + " again",
            partial(act, again=True),
            2,
            "again",
        )
        for act in (settle_all, give_back, leave, settle_and_enqueue)
    ),
    Operation("take over", take_over, 2),
    Operation("lease", lease),
    Operation("beat", beat, 2),
    Operation("cancel waiting", cancel_waiting),
    Operation("reprioritize", reprioritize),
    Operation("lease limited", lease_limited, 2),
    Operation("reap", reap, 2),
    Operation("end worker", end_worker, 2),
    Operation("give back batch", give_back_batch, 2),
    Operation("cancel running", cancel_running, 2),
    Operation("accept interrupted", accept_interrupted, 2),
]
