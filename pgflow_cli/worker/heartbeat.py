"""The supervisor's word that its processes live, and that their leases go on."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pgflow_cli.errors import PgflowError
from pgflow_cli.models.workers import BeatReply
from pgflow_cli.repository import Database, Repository
from pgflow_cli.telemetry import logs
from pgflow_cli.telemetry.counters import (
    Labels,
    Tally,
    counter_rows,
    limited,
    rate_rows,
)
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.places import Vacancy
from pgflow_cli.worker.process import FROZEN_AFTER
from pgflow_cli.worker.shared_memory import GONE, SharedMemory


class Ledger:
    """Each count reaches the database once, whatever becomes of the connection.

    What was sent and not confirmed is sent again as it was, under the same number.
    """

    def __init__(self) -> None:
        self._waiting = Tally()
        self._lock = threading.Lock()
        self._sent: Tally | None = None
        self._number = 0
        self._labels = Labels()

    def add(self, tally: Tally) -> None:
        """Take what a process has counted; from any thread."""
        with self._lock:
            self._waiting.add(tally)

    def flush(self, repository: Repository, supervisor_id: str) -> None:
        """Add what has come together; a statement only if there is anything.

        Raises what the statement raises; nothing is forgotten then.
        """
        if self._sent is None:
            with self._lock:
                self._sent, self._waiting = self._waiting, Tally()
            self._number += 1
        if self._sent:
            repository.counters.add_counters(
                supervisor_id,
                self._number,
                counters=counter_rows(limited(self._sent, self._labels)),
                rates=rate_rows(self._sent),
            )
        self._sent = None


log = logging.getLogger("pgflow.supervisor")

# Seconds without a turn after which a process with a running job counts as held up by
# it: ten turns, and no more than a heartbeat of the shortest lease.
HELD_UP = 0.5


class Process(Protocol):
    """What the heartbeat sees of a worker process."""

    worker_id: str
    memory: SharedMemory

    def row(self) -> dict[str, object]:
        """Return its row of the workers table."""
        ...

    def wake(self) -> None:
        """Have it look for jobs."""
        ...

    def learn(self, row: Mapping[str, object], *, quiet: bool) -> None:
        """Do what its row says now, to which `row` has been sent."""
        ...

    def cancel(self, job_ids: Collection[str]) -> None:
        """Name the canceled jobs among those it holds."""
        ...


@dataclass
class Heartbeat:
    """Extends the leases that live processes report: one statement for all of them,
    every `options.heartbeat` seconds.
    """

    options: WorkerOptions
    database: Database
    supervisor_id: str
    processes: Callable[[], Sequence[Process]]
    vacant: Callable[[], Sequence[Vacancy]] = tuple
    stopped: threading.Event = field(default_factory=threading.Event)
    hurried: threading.Event = field(default_factory=threading.Event)
    registered: set[str] = field(default_factory=set)
    ledger: Ledger = field(default_factory=Ledger)
    failing_since: float | None = None  # monotonic seconds; None: the last was answered
    answered_at: float = field(default_factory=time.monotonic)
    _told: set[str] = field(default_factory=set)  # vacancies that have a row

    def run(self) -> None:
        repository = Repository.of(self.database)
        while not self.stopped.is_set():
            self.hurried.clear()
            pause = self.options.heartbeat
            try:
                self.beat(repository)
                self.failing_since, self.answered_at = None, time.monotonic()
                self.ledger.add(Tally(dropped_lines=logs.take_dropped()))
                self.ledger.flush(repository, self.supervisor_id)
            except PgflowError as error:
                self.failing_since = self.failing_since or time.monotonic()
                log.warning(
                    "heartbeat failed: %s",
                    error,
                    extra=logs.trouble("heartbeat_failed", error),
                )
                # Soon again, but not all supervisors at once.
                pause = random.uniform(0.2, min(1.0, pause))  # noqa: S311 - jitter
            self.hurried.wait(pause)
        self._end(repository)
        repository.close()

    def _end(self, repository: Repository) -> None:
        """Send what was counted last; twice, for the session may have ended since it
        was last used: by an idle_session_timeout, say.
        """
        lost: PgflowError | None = None
        for _ in range(2):
            try:
                self._forget_filled(repository, [])
                self.ledger.flush(repository, self.supervisor_id)
            except PgflowError as error:
                lost = error
            else:
                return
        log.warning(
            "what was counted last is lost: %s", lost, extra={"event": "counters_lost"}
        )

    def hurry(self) -> None:
        """Send a heartbeat now: a process is ready and not yet registered."""
        self.hurried.set()

    def failing_for(self) -> float:
        """Return for how long none was answered; 0 if the last one was."""
        since = self.failing_since
        return 0.0 if since is None else time.monotonic() - since

    def overdue_for(self) -> float:
        """Return for how long one is overdue, also where none has failed: a busy host
        may have given it no time. 0 until half an interval has passed in vain.
        """
        late = time.monotonic() - self.answered_at - 1.5 * self.options.heartbeat
        return max(0.0, late, self.failing_for())

    def stop(self) -> None:
        self.stopped.set()
        self.hurried.set()

    def beat(self, repository: Repository) -> None:
        """Send one heartbeat and tell the processes what came of it."""
        # In this order: what becomes ready meanwhile is in both, not in neither.
        vacant = list(self.vacant())
        processes = list(self.processes())
        if processes or vacant:
            self._tell(repository, processes, vacant)
        self._forget_filled(repository, vacant)

    def _forget_filled(self, repository: Repository, vacant: Sequence[Vacancy]) -> None:
        filled = self._told - {vacancy.worker_id for vacancy in vacant}
        if filled:
            repository.unsettled_leases.forget_workers([*filled])
        self._told -= filled

    def _tell(
        self,
        repository: Repository,
        processes: Sequence[Process],
        vacant: Sequence[Vacancy],
    ) -> None:
        sent = time.monotonic()
        held = {p.worker_id: _extendable(p.memory, sent) for p in processes}
        progress: dict[str, dict[str, object]] = {}
        for process in processes:
            for run in process.memory.running():
                if run.progress[1]:
                    progress.setdefault(run.lease_id, {})[run.job_id] = run.progress
        rows = [p.row() for p in processes]
        vacant_rows = [vacancy.row() for vacancy in vacant]
        self._told.update(vacancy.worker_id for vacancy in vacant)
        leases = {lease for leases in held.values() for lease in leases}
        leases |= _unread_leases(repository, processes, sent)
        reply = repository.leases.beat(
            supervisor_id=self.supervisor_id,
            workers=[*rows, *vacant_rows],
            lease_ids=sorted(leases),
            lease_seconds=self.options.lease_seconds,
            progress=progress,
        )
        for vacancy, row in zip(vacant, vacant_rows, strict=True):
            vacancy.learn(row, quiet=vacancy.worker_id in reply.quiet)
        for process, row in zip(processes, rows, strict=True):
            process.memory.renew(sent)
            process.learn(row, quiet=process.worker_id in reply.quiet)
            for lease_id, place in held[process.worker_id].items():
                exists = lease_id in reply.leases
                until = sent + self.options.lease_seconds if exists else GONE
                process.memory.extend(lease_id, place, until)
            self._pass_on(reply, process, held[process.worker_id])
            if process.worker_id not in self.registered:
                # Known to producers from now on: look once more for what they enqueued
                # before.
                self.registered.add(process.worker_id)
                process.wake()

    def _pass_on(
        self, reply: BeatReply, process: Process, leases: Iterable[str]
    ) -> None:
        """Name the canceled jobs to a process at each heartbeat, as long as it holds
        their leases: a frozen process finds them when it goes on.
        """
        if canceled := {j for lease in leases for j in reply.canceled.get(lease, ())}:
            process.cancel(canceled)


def _unread_leases(
    repository: Repository, processes: Sequence[Process], now: float
) -> set[str]:
    """Return the leases of processes in which a job holds the interpreter: the database
    may have granted one whose reply is not read yet, and its process, which gives it
    back or begins it, comes to that only when the job lets go.
    """
    held_up = [
        process.worker_id
        for process in processes
        if now - process.memory.turned_at() > HELD_UP and process.memory.running()
    ]
    if not held_up:
        return set()
    found = repository.unsettled_leases.list_worker_leases(held_up)
    return {lease_id for _, lease_id in found}


def _extendable(memory: SharedMemory, now: float) -> dict[str, int]:
    """Return the leases to extend: none of a process that is frozen while no job of its
    own accounts for it.
    """
    turning = now - memory.turned_at() < FROZEN_AFTER
    return memory.held() if turning or memory.running() else {}
