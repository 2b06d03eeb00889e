"""One round of one queue: its database, its programs, and what may be asked of them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.peers import starts
from tests.benchmarks.peers.catalog import PGFLOW
from tests.benchmarks.peers.figures import quantile
from tests.benchmarks.peers.protocol import (
    NOTHING,
    PeerFailed,
    Producer,
    Runner,
    Sent,
    Task,
    Workers,
)
from tests.benchmarks.peers.starts import Start, Starts, WrongJobs
from tests.support.jobs import audit

BULK = 1_000
LOADED_AT_ONCE = 10_000
START_UP = 60.0  # seconds a worker may take until it runs its first job


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    scenarios: tuple[str, ...]
    jobs: int  # of a drain
    single: int  # jobs enqueued one by one
    samples: int  # of an idle worker
    seconds: float  # of a steady rate
    rates: tuple[int, ...]
    limit: float  # seconds until a drain is cut off
    backlog: int  # jobs that wait behind those of a drain
    loading: float  # seconds until the loading of a backlog is cut off


@dataclass
class Round:
    """One queue's run through the plan.

    A scenario begins with `prepare`, and leaves figures and notes by their keys. One
    that leaves jobs behind says `stale`; a fresh database follows.
    """

    base: Runner
    admin_url: str
    plan: Plan
    figures: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)  # what limits a figure

    def __post_init__(self) -> None:
        self._open = ExitStack()
        self._starts = Starts(self.base.starts)
        self._runner = self.base
        self._connection: psycopg.Connection[Any]
        self._producer: Producer
        self._workers: Workers | None = None
        self._next = 0  # number of the next job
        self._before = 0  # how many had started when jobs were sent last
        self._loaded: int | None = None  # the first of the jobs that wait for a drain
        self._fresh = False

    def close(self) -> None:
        """End the programs."""
        self._open.close()
        self.stale()

    def stale(self) -> None:
        """Have the next scenario begin with an empty database."""
        self._fresh = False

    def prepare(self, task: Task = NOTHING, concurrency: int | None = None) -> None:
        """Have a database without other jobs, and programs for jobs like these."""
        runner = self.base.doing(task, concurrency)
        if not self._fresh or runner != self._runner:
            self._renew(runner)

    def send(self, jobs: int, *, each: int, rate: float = 0.0) -> tuple[int, Sent]:
        """Enqueue jobs; return the number of the first, and what was done."""
        first, self._next = self._next, self._next + jobs
        self._before = self._starts.count()
        return first, self._producer.send(first, jobs, each=each, rate=rate)

    def load(self, jobs: int, *, each: int = BULK) -> Sent:
        """Have jobs wait for the next drain."""
        self._loaded, sent = self.send(jobs, each=each)
        return sent

    def load_backlog(self, jobs: int) -> int:
        """Have jobs wait, by the fastest way the manual has; return how many do.

        Raises WrongJobs if the queue says it is another number.
        """
        until = time.monotonic() + self.plan.loading
        done, statement = 0, self.base.peer.load
        while done < jobs and time.monotonic() < until:
            some = min(LOADED_AT_ONCE, jobs - done)
            if statement:
                first, self._next = self._next, self._next + some
                numbers = {"first": first, "last": first + some - 1}
                self._connection.execute(statement, numbers)
            else:
                self.send(some, each=BULK)
            done += some
        self._loaded = self._next - done
        if (waiting := self.unsettled()) != done:
            raise WrongJobs(f"{done} jobs were loaded and {waiting} wait")
        return done

    def drain(
        self, jobs: int, *, processes: int = 1, held: bool = False, longer: float = 0.0
    ) -> list[Start]:
        """Have new workers run the jobs that wait, or else new ones.

        `held` is with another session's snapshot; it may last so many seconds longer
        than the plan says.
        """
        first = self._take_loaded(jobs)
        with self._snapshot(held), self._gated_workers(processes):
            return self.finish(first, jobs, longer=longer)

    def drain_part(self, waiting: int, jobs: int) -> list[Start]:
        """Have a new worker run jobs while more wait; return the first starts.

        Raises WrongJobs if one ran twice, or if one left the queue that has not run.
        """
        first = self._take_loaded(waiting)
        with self._gated_workers(1):
            self._wait(lambda: self._starts.count() >= jobs, limit=self.plan.limit)
            settled = waiting - self.unsettled()
            # Handlers note a start some milliseconds later.
            if not self._wait(lambda: self._starts.count() >= settled, limit=10.0):
                raise WrongJobs(f"{settled} jobs are settled and fewer ran")
        self.stale()
        return self._starts.of(first, waiting)[:jobs]

    def warm(self) -> None:
        """Have a worker run that has nothing to do."""
        if self._workers is not None:
            return
        if self._loaded is not None:
            self._renew(self._runner)
        self._starts.clear()
        self._workers = self._open.enter_context(self._runner.workers(1))
        self.send(1, each=1)
        if not self._wait(lambda: self._starts.count() > 0, limit=START_UP):
            raise PeerFailed("its worker runs no job")
        self._settle()
        time.sleep(1)  # until it is idle in its own way: listens, sleeps between polls

    def finish(self, first: int, jobs: int, *, longer: float = 0.0) -> list[Start]:
        """Wait for the jobs that were sent last and return their starts.

        All have run as often as planned and are settled; or time was up, and none ran
        more often.
        """
        each = self._runner.task.starts
        all_started = self._before + jobs * each
        limit = self.plan.limit + longer
        if self._wait(lambda: self._starts.count() >= all_started, limit=limit):
            self._settle()
        else:
            self.stale()
        rows = self._starts.of(first, jobs, each=each)
        if self._fresh and len(rows) < jobs * each:
            raise WrongJobs(f"{len(rows)} starts of {jobs} jobs, and others ran")
        return rows

    def waits(
        self, key: str, jobs: int, *, each: int, rate: float
    ) -> tuple[list[Start], Sent]:
        """Send jobs to a warm worker, and take how long they waited."""
        first, sent = self.send(jobs, each=each, rate=rate)
        rows = self.finish(first, jobs)
        late = (time.time() - sent.ended) * 1000
        took = starts.waits(rows, jobs - len(rows), at_least=late)
        for name, part in (("p50", 0.50), ("p99", 0.99)):
            self.figures[f"{key}-{name}"] = quantile(took, part)
            if len(rows) < part * jobs:
                self.notes[f"{key}-{name}"] = (
                    f"at least this: {jobs - len(rows):,} of {jobs:,} jobs"
                    f" had not started {self.plan.limit:g} s after the last was sent"
                )
        return rows, sent

    def take_rate(self, key: str, rows: list[Start], jobs: int) -> None:
        """Take jobs per second, each with all its starts."""
        each = self._runner.task.starts
        self.figures[key] = starts.rate(rows) / each
        if len(rows) < jobs * each:
            self.notes[key] = (
                f"cut off: {len(rows):,} of {jobs * each:,} starts had been made"
            )

    def unsettled(self) -> int:
        """How many jobs the queue says are not settled."""
        statement = self.base.peer.unsettled
        statements = {statement.format(queue=name) for name in self._runner.task.names}
        return sum(self._count(one) for one in statements)

    def _renew(self, runner: Runner) -> None:
        self._open.close()
        self._runner = runner
        self._workers = self._loaded = None
        self._starts.clear()
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            admin.execute("drop database if exists peer with (force)")
            admin.execute("create database peer")
        runner.migrate()
        self._connection = self._open.enter_context(
            psycopg.connect(runner.url, autocommit=True)
        )
        self._producer = self._open.enter_context(runner.producer())
        self._fresh = True

    def _take_loaded(self, jobs: int) -> int:
        """The first number of jobs that wait, with nothing else noted or in the way."""
        if self._workers is not None:
            self._renew(self._runner)
        self._starts.clear()
        if self._loaded is None:
            self.load(jobs)
        assert self._loaded is not None
        first, self._loaded = self._loaded, None
        self._before = 0
        self._connection.execute("vacuum analyze")
        self._connection.execute("checkpoint")
        return first

    @contextmanager
    def _gated_workers(self, processes: int) -> Iterator[None]:
        """Run workers whose processes start their first jobs together."""
        with (
            tempfile.TemporaryDirectory(prefix="pgflow-bench-") as folder,
            self._runner.workers(processes, Path(folder)) as self._workers,
        ):
            gate = Path(folder)
            if not self._wait(
                lambda: len([*gate.iterdir()]) >= processes, limit=START_UP
            ):
                raise PeerFailed(f"not each of {processes} processes gets a job")
            (gate / "open").touch()
            yield
        self._workers = None

    @contextmanager
    def _snapshot(self, held: bool) -> Iterator[None]:
        """Hold a transaction with an id and a snapshot open, if that is asked for."""
        if not held:
            yield
            return
        with psycopg.connect(self._runner.url) as holder:
            holder.execute("set transaction isolation level repeatable read")
            holder.execute("select txid_current()")
            yield

    def _wait(self, happened: Callable[[], bool], *, limit: float) -> bool:
        """Wait until something has happened; False if that takes too long.

        Raises PeerFailed if a worker ends meanwhile.
        """
        until = time.monotonic() + limit
        while not happened():
            if time.monotonic() > until:
                return False
            if self._workers is not None:
                self._workers.check()
            time.sleep(0.02)
        return True

    def _settle(self) -> None:
        """Wait until the queue itself says that nothing is left."""
        limit = max(10.0, self.plan.limit)
        if not self._wait(lambda: self.unsettled() == 0, limit=limit):
            raise WrongJobs(f"{self.unsettled()} jobs ran and are not settled")
        if self.base.peer is PGFLOW:
            if audit(self._connection) != (0, 0):
                raise WrongJobs("a job is in no place, or in two")
            if self._count("select count(*) from pgflow.dead_letters"):
                raise WrongJobs("a job is a dead letter")

    def _count(self, statement: str) -> int:
        row = self._connection.execute(statement).fetchone()
        assert row is not None
        return int(row[0])
