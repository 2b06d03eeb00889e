"""Scenarios: one round of one queue, from an empty database to its figures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.peers import starts
from tests.benchmarks.peers.catalog import PGFLOW
from tests.benchmarks.peers.figures import Measure, quantile
from tests.benchmarks.peers.protocol import (
    PeerFailed,
    Producer,
    Runner,
    Sent,
    Workers,
)
from tests.benchmarks.peers.starts import Start, Starts, WrongJobs
from tests.support.jobs import audit

BULK = 1_000
COMMITS = 40  # a second, at a steady rate
IDLE_RATE = 37.0  # a second: no multiple of it is the interval of a poll
START_UP = 60.0  # seconds a worker may take until it runs its first job

SCENARIOS = ("single", "bulk", "drain1", "drain2", "idle", "steady", "first")
# Those where settings of a worker matter most; a queue at its defaults runs no others.
OF_DEFAULTS = ("drain1", "idle", "steady")


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

    def measures(self) -> dict[str, Measure]:
        """All figures of the plan by their key, in the table's order."""
        found = {
            "single": Measure("enqueue, one a call", "jobs/s"),
            "bulk": Measure(f"enqueue, {BULK:,} a call", "jobs/s"),
            "drain1": Measure("drain, 1 process, jobs first", "jobs/s"),
            "drain2": Measure("drain, 2 processes, jobs first", "jobs/s"),
            "first": Measure("drain, 1 process, worker first", "jobs/s"),
        }
        for rate in self.rates:
            name = f"steady {rate:,}/s"
            found |= {
                f"steady-{rate}-done": Measure(f"{name}: started", "jobs/s"),
                f"steady-{rate}-p50": Measure(f"{name}: wait p50", "ms", False),
                f"steady-{rate}-p99": Measure(f"{name}: wait p99", "ms", False),
            }
        found |= {
            "idle-p50": Measure("idle pick-up p50", "ms", False),
            "idle-p99": Measure("idle pick-up p99", "ms", False),
        }
        return {
            key: measure
            for key, measure in found.items()
            if scenario_of(key) in self.scenarios
        }


def scenario_of(key: str) -> str:
    """The scenario that a measure's key belongs to."""
    return key.partition("-")[0]


@dataclass
class Round:
    """One queue's run through the plan.

    A scenario that leaves jobs behind is followed by a fresh database, except that the
    jobs of "bulk" are drained by "drain1". A scenario that fails has no figure but a
    reason.
    """

    runner: Runner
    admin_url: str
    plan: Plan
    figures: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # by scenario
    notes: dict[str, str] = field(default_factory=dict)  # what limits a figure

    def __post_init__(self) -> None:
        self._open = ExitStack()
        self._starts = Starts(self.runner.starts)
        self._connection: psycopg.Connection[Any]
        self._producer: Producer
        self._workers: Workers | None = None
        self._next = 0  # number of the next job
        self._before = 0  # how many had started when jobs were sent last
        self._loaded: int | None = None  # the first of the jobs that wait for a drain
        self._fresh = False

    def run(self) -> None:
        """Measure every scenario of the plan."""
        play = {
            "single": self._single,
            "bulk": self._bulk,
            "drain1": lambda: self._drain("drain1", 1),
            "drain2": lambda: self._drain("drain2", 2),
            "idle": self._idle,
            "steady": self._steady,
            "first": self._first,
        }
        with self._open:
            for name in self.plan.scenarios:
                try:
                    if not self._fresh:
                        self._renew()
                    play[name]()
                except (PeerFailed, WrongJobs, psycopg.Error) as error:
                    self.failures[name] = str(error)
                    self._fresh = False

    def _renew(self) -> None:
        """Begin with an empty database that has the peer's schema."""
        self._open.close()
        self._workers = self._loaded = None
        self._starts.clear()
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            admin.execute("drop database if exists peer with (force)")
            admin.execute("create database peer")
        self.runner.migrate()
        self._connection = self._open.enter_context(
            psycopg.connect(self.runner.url, autocommit=True)
        )
        self._producer = self._open.enter_context(self.runner.producer())
        self._fresh = True

    def _send(self, jobs: int, *, each: int, rate: float = 0.0) -> tuple[int, Sent]:
        first, self._next = self._next, self._next + jobs
        self._before = self._starts.count()
        return first, self._producer.send(first, jobs, each=each, rate=rate)

    def _single(self) -> None:
        self.figures["single"] = self._send(self.plan.single, each=1)[1].rate
        self._fresh = False  # these jobs wait

    def _bulk(self) -> None:
        self._loaded, sent = self._send(self.plan.jobs, each=BULK)
        self.figures["bulk"] = sent.rate

    def _drain(self, name: str, processes: int) -> None:
        self._starts.clear()
        first, self._loaded = self._loaded, None
        if first is None:
            first, _ = self._send(self.plan.jobs, each=BULK)
        self._before = 0
        self._connection.execute("vacuum analyze")
        self._connection.execute("checkpoint")
        with (
            tempfile.TemporaryDirectory(prefix="pgflow-bench-") as folder,
            self.runner.workers(processes, Path(folder)) as self._workers,
        ):
            self._open_gate(Path(folder), processes)
            rows = self._finish(first, self.plan.jobs)
        self._workers = None
        self._rate(name, rows)

    def _open_gate(self, gate: Path, processes: int) -> None:
        """Let the first jobs of all processes start, once each process has one."""
        if not self._wait(lambda: len([*gate.iterdir()]) >= processes, limit=START_UP):
            raise PeerFailed(f"not each of {processes} processes gets a job")
        (gate / "open").touch()

    def _idle(self) -> None:
        self._warm()
        self._waits("idle", self.plan.samples, each=1, rate=IDLE_RATE)

    def _steady(self) -> None:
        for rate in self.plan.rates:
            if not self._fresh:
                self._renew()
            self._warm()
            jobs, each = int(rate * self.plan.seconds), max(2, rate // COMMITS)
            rows, sent = self._waits(f"steady-{rate}", jobs, each=each, rate=rate)
            done = sum(row.at <= sent.ended for row in rows)
            self.figures[f"steady-{rate}-done"] = done / (sent.ended - sent.began)

    def _first(self) -> None:
        self._warm()
        first, _ = self._send(self.plan.jobs, each=BULK)
        self._rate("first", self._finish(first, self.plan.jobs))

    def _rate(self, key: str, rows: list[Start]) -> None:
        self.figures[key] = starts.rate(rows)
        if len(rows) < self.plan.jobs:
            self.notes[key] = (
                f"cut off after {self.plan.limit:g} s:"
                f" {len(rows):,} of {self.plan.jobs:,} jobs had started"
            )

    def _waits(
        self, key: str, jobs: int, *, each: int, rate: float
    ) -> tuple[list[Start], Sent]:
        first, sent = self._send(jobs, each=each, rate=rate)
        rows = self._finish(first, jobs)
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

    def _warm(self) -> None:
        """Have a worker run that has nothing to do."""
        if self._workers is not None:
            return
        if self._loaded is not None:
            self._renew()
        self._starts.clear()
        self._workers = self._open.enter_context(self.runner.workers(1))
        self._send(1, each=1)
        if not self._wait(lambda: self._starts.count() > 0, limit=START_UP):
            raise PeerFailed("its worker runs no job")
        self._settle()
        time.sleep(1)  # until it is idle in its own way: listens, sleeps between polls

    def _finish(self, first: int, jobs: int) -> list[Start]:
        """Wait for the jobs that were sent last and return their starts.

        All have run exactly once and are settled; or time was up, and none ran twice.
        """
        all_started = self._before + jobs
        if self._wait(
            lambda: self._starts.count() >= all_started, limit=self.plan.limit
        ):
            self._settle()
        else:
            self._fresh = False
        rows = self._starts.of(first, jobs)
        if self._fresh and len(rows) < jobs:
            raise WrongJobs(f"{len(rows)} of {jobs} jobs ran, and others did")
        return rows

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
        statement = self.runner.peer.unsettled
        limit = max(10.0, self.plan.limit)
        if not self._wait(lambda: self._count(statement) == 0, limit=limit):
            raise WrongJobs(f"{self._count(statement)} jobs ran and are not settled")
        if self.runner.peer is PGFLOW:
            if audit(self._connection) != (0, 0):
                raise WrongJobs("a job is in no place, or in two")
            if self._count("select count(*) from pgflow.dead_letters"):
                raise WrongJobs("a job is a dead letter")

    def _count(self, statement: str) -> int:
        row = self._connection.execute(statement).fetchone()
        assert row is not None
        return int(row[0])
