"""The supervisor's other standing duties towards PostgreSQL, each in a thread with a
connection of its own: upkeep, maintenance, and hearing of new jobs.
"""

from __future__ import annotations

import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pgflow_cli import maintenance
from pgflow_cli.errors import (
    DatabaseUnavailable,
    DataDamaged,
    PermissionDenied,
    PgflowError,
    StatementFailed,
    TooSlow,
    TryLater,
)
from pgflow_cli.maintenance import migrations
from pgflow_cli.maintenance.reap import Reaper
from pgflow_cli.operations import fence
from pgflow_cli.repository import Database, Listener, Repository
from pgflow_cli.telemetry import logs
from pgflow_cli.worker.dead_processes import FIRST_LOOK, Graveyard, tell_late
from pgflow_cli.worker.options import WorkerOptions

log = logging.getLogger("pgflow.supervisor")

PAUSE = 1.0  # seconds before what an outage kept from being settled is tried again
LAST_LOOKS = 2.0  # seconds that leases of a process that has just died may come late
FOLDED = 10_000  # rows of counters at a time
# Seconds after an outage before expired leases are reaped: processes back off for one,
# and give back first what was leased to them without their knowledge. Reaped, it would
# count as lost though it never started.
AFTER_OUTAGE = 3.0
# Seconds for which expired leases are left alone while our own heartbeats fail, at
# most: ours would be among them, with jobs that have not begun.
WHILE_FAILING = 300.0


@dataclass
class Upkeep:
    """Reaps expired leases, makes partitions ahead, settles what dead processes held,
    counts what was enqueued, and sees whether the database is still the one it was.

    `looks` are further duties; each returns the seconds until it is due again.
    """

    PARTITION_INTERVAL = 3600.0
    PERMISSION_RETRY = 3600.0  # where the owner of the tables is needed
    RETRY = 5.0  # of what is denied otherwise, perhaps for a moment only
    DAMAGE_RETRY = 60.0  # of what reads a damaged page
    PARTITION_RETRY = 60.0
    FORGET_INTERVAL = 60.0
    FENCE_INTERVAL = 10.0
    PAUSE_INTERVAL = 60.0
    ARRIVAL_INTERVAL = 5.0
    BATCH = 100
    NAMED = 20  # jobs in a line

    options: WorkerOptions
    database: Database
    urgent: queue.SimpleQueue[Callable[[Repository], None]] = field(
        default_factory=queue.SimpleQueue
    )
    stopped: threading.Event = field(default_factory=threading.Event)
    looks: Sequence[Callable[[Repository], float]] = ()
    # For how many seconds a heartbeat of this supervisor is overdue.
    overdue_for: Callable[[], float] = float
    fenced: bool = False
    reaps: bool = False

    def __post_init__(self) -> None:
        self.reaper = Reaper(self.options.crash_budget)
        self.graveyard = Graveyard(self.options.lease_seconds)
        # Since when the database has answered; None during an outage.
        self._served_since: float | None = -math.inf

    def run(self) -> None:
        repository = Repository.of(self.database)
        due: dict[Callable[[Repository], float], float] = {
            **dict.fromkeys(self.looks, 0.0),
            self._fence: 0.0,
            self._look_for_late_leases: math.inf,
            self._reap: 0.0,
            self._partitions: 0.0,
            self._forget: 0.0,
            self._pauses: 0.0,
            self._arrivals: 0.0,
        }
        while not (self.stopped.is_set() and self.urgent.empty()):
            now = time.monotonic()
            for duty, at in due.items():
                if now >= at and not self.stopped.is_set():
                    due[duty] = now + self._attempt(lambda d=duty: d(repository))  # type: ignore[misc]
            due[self._look_for_late_leases] = self.graveyard.next_look()
            try:
                task = self.urgent.get(timeout=max(0.05, min(due.values()) - now))
            except queue.Empty:
                continue
            if not self._settle(task, repository):
                self.urgent.put(task)
            due[self._look_for_late_leases] = self.graveyard.next_look()
        self._look_last(repository)
        repository.close()

    def stop(self) -> None:
        self.stopped.set()
        self.urgent.put(lambda _: None)  # so that it stops waiting for one

    def _attempt(self, duty: Callable[[], float]) -> float:
        """Run a duty; return in how many seconds it is due again."""
        try:
            pause = duty()
        except PgflowError as error:
            slow = isinstance(error, TooSlow)
            if isinstance(error, DatabaseUnavailable) and not slow:
                self._served_since = None
            log.warning(
                "upkeep failed: %s", error, extra=logs.trouble("upkeep_failed", error)
            )
            if isinstance(error, DataDamaged):
                return self.DAMAGE_RETRY
            return self.RETRY if isinstance(error, PermissionDenied) else 1.0
        if self._served_since is None:
            self._served_since = time.monotonic()
        return pause

    def _settle(
        self, task: Callable[[Repository], None], repository: Repository
    ) -> bool:
        try:
            task(repository)
        except StatementFailed as error:
            log.error(  # noqa: TRY400 - the sentence is all there is to know
                "cannot settle for a process that ended; its leases run out: %s",
                error,
                extra={"event": "leases_left"},
            )
        except PgflowError as error:
            log.warning(
                "cannot settle for a process that ended: %s",
                error,
                extra=logs.trouble("upkeep_failed", error),
            )
            pause = 0.2 if isinstance(error, TryLater) else PAUSE
            return self.stopped.wait(pause)  # when stopping, their leases will run out
        return True

    def _fence(self, repository: Repository) -> float:
        identity = fence.watch(repository)
        if identity.fenced and not self.fenced:
            log.error(
                "the database is fenced, nothing is leased: %s (pgflow fence status)",
                identity.reason,
                extra={"event": "fenced"},
            )
        elif self.fenced and not identity.fenced:
            log.info("the fence is down: leasing again", extra={"event": "unfenced"})
        self.fenced = identity.fenced
        return self.FENCE_INTERVAL

    def _look_for_late_leases(self, repository: Repository) -> float:
        for burial, ended in self.graveyard.look(repository):
            tell_late(burial, ended)
        return 0.0  # the graveyard knows when

    def _look_last(self, repository: Repository) -> None:
        """Look for late leases once more, and for a moment again and again if a process
        has died just now: later, they would count as lost.
        """
        until = time.monotonic() + min(LAST_LOOKS, self.options.lease_seconds / 4)
        while True:
            self._attempt(lambda: self._look_for_late_leases(repository))
            if time.monotonic() >= until or not self.graveyard.young():
                return
            time.sleep(FIRST_LOOK / 2)

    def _reap(self, repository: Repository) -> float:
        # Else what comes late to a dead process might run out, and count as lost.
        self._look_for_late_leases(repository)
        if self._served_since is None:
            self._fence(repository)  # raises if the outage goes on
            return AFTER_OUTAGE
        if 0.0 < self.overdue_for() < WHILE_FAILING:
            # A lock of a table, say. Once it is gone the next heartbeat extends what
            # lives, and processes give back what they have not begun.
            self._served_since = time.monotonic()
        left = self._served_since + AFTER_OUTAGE - time.monotonic()
        if left > 0:
            return left
        reaped = self.reaper.reap(repository, limit=self.BATCH)
        if reaped:
            workers = sorted({job.worker_name for job in reaped})
            log.warning(
                "reap_expired_locks: %d jobs of %s",
                len(reaped),
                ", ".join(workers),
                extra={
                    "event": "reap_expired_locks",
                    "count": len(reaped),
                    "workers": workers,
                    "jobs": [job.job_id for job in reaped[: self.NAMED]],
                },
            )
        elif not self.reaps:
            log.info(
                "reap_expired_locks: every %g s",
                self.options.reap_interval,
                extra={"event": "reap_expired_locks", "count": 0},
            )
        self.reaps = True
        return 0.0 if len(reaped) >= self.BATCH else self.options.reap_interval

    def _partitions(self, repository: Repository) -> float:
        try:
            made = migrations.ensure_partitions(repository)
        except PermissionDenied as error:
            # New partitions need the owner of the tables: migrate and maintain make
            # them, then.
            log.warning(
                "partitions left to others, this role may not make them: %s",
                error,
                extra={"event": "upkeep_denied"},
            )
            return self.PERMISSION_RETRY
        except TryLater as error:
            # Another session holds a lock; the default partition takes the rows
            # meanwhile. Not at once again: each try makes others wait.
            log.warning("%s", error, extra={"event": "partitions_postponed"})
            return self.PARTITION_RETRY
        if made:
            log.info(
                "partitions made: %s",
                ", ".join(made),
                extra={"event": "partitions_made", "partitions": made},
            )
        return self.PARTITION_INTERVAL

    def _forget(self, repository: Repository) -> float:
        forgotten = repository.unsettled_leases.forget_silent_workers()
        if forgotten:
            log.info(
                "workers long silent, forgotten: %s",
                ", ".join(forgotten),
                extra={"event": "workers_forgotten", "workers": forgotten},
            )
        repository.counters.fold_counters(limit=FOLDED)
        repository.counters.prune_queue_rates(limit=FOLDED)
        return self.FORGET_INTERVAL

    def _pauses(self, repository: Repository) -> float:
        repository.counters.record_pauses()
        return self.PAUSE_INTERVAL

    def _arrivals(self, repository: Repository) -> float:
        more = repository.counters.count_arrivals()
        return 0.0 if more else self.ARRIVAL_INTERVAL


@dataclass
class MaintenanceThread:
    """Runs passes of `maintain`, unless another process has run one lately."""

    LAST_WORDS = 0.5  # seconds for the batch that runs when all ends

    options: WorkerOptions
    database: Database
    stopped: threading.Event = field(default_factory=threading.Event)
    current: maintenance.Pass | None = None

    def run(self) -> None:
        every = self.options.maintenance_interval
        # Not at once: a worker that is started again and again would do little else.
        if self.stopped.wait(every * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter
            return
        try:
            self._run(every)
        except PgflowError as error:
            log.warning(
                "maintenance is left to others: %s",
                error,
                extra={"event": "maintain_failed"},
            )

    def _run(self, every: float) -> None:
        maintenance.run_forever(
            # A pass has long statements, and no lease depends on it.
            replace(self.database, call_timeout=600.0),
            maintenance.MaintenancePlan(
                archive_after=self.options.archive_after,
                prune_after=self.options.prune_after,
                crash_budget=self.options.crash_budget,
                interval=every * 0.8,
            ),
            every=every,
            stopped=self.stopped,
            begin=self._begin,
            suited=True,  # or there would be no worker
        )

    def stop(self) -> None:
        self.stopped.set()
        if self.current is not None:
            late = threading.Timer(self.LAST_WORDS, self.current.abandon)
            late.daemon = True
            late.start()

    def _begin(self, current: maintenance.Pass) -> None:
        self.current = current


@dataclass
class QueueListener:
    """Hears NOTIFY and wakes the processes. A hint only: polling goes on underneath.

    A line that delivers nothing is tested again every `RETEST` seconds: a pooler may
    have been taken away.
    """

    RETEST = 60.0

    options: WorkerOptions
    database: Database
    wake: Callable[[], None]
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        listener = Listener(self.database)
        told = False
        while not self.stopped.is_set():
            try:
                if not listener.hears_itself():
                    if not told:
                        log.warning(
                            "LISTEN delivers nothing here (a transaction pooler?):"
                            " polling every %g s",
                            self.options.poll,
                            extra={"event": "listen_deaf"},
                        )
                        told = True
                    listener.close()
                    self.stopped.wait(self.RETEST)
                    continue
                if told:
                    log.info("LISTEN delivers again", extra={"event": "listen_heard"})
                    told = False
                self.wake()  # for what was notified before we listened
                self._listen(listener)
            except PgflowError as error:
                log.warning(
                    "cannot listen for new jobs, polling every %g s until that works:"
                    " %s",
                    self.options.poll,
                    error,
                    extra=logs.trouble("listen_failed", error),
                )
                listener.close()
                self.stopped.wait(random.uniform(0.5, 1))  # noqa: S311 - jitter
        listener.close()

    def stop(self) -> None:
        self.stopped.set()

    def _listen(self, listener: Listener) -> None:
        """Pass on what is heard, until it is time to test the line again."""
        until = time.monotonic() + Listener.TEST_INTERVAL
        while time.monotonic() < until and not self.stopped.is_set():
            heard = listener.wait(0.5)
            queues = self.options.queues
            if any(_is_for(queue, queues) for queue in heard):
                self.wake()


def _is_for(payload: str, queues: list[str] | None) -> bool:
    """Say whether a notification concerns these queues; None means all of them."""
    if payload.startswith(Listener.TEST):
        return False
    return queues is None or payload in queues
