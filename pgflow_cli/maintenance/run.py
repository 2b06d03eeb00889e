"""A pass of `maintain`: it runs one task after another, and alone in its database."""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from pgflow_cli.errors import (
    ConfigurationError,
    Contention,
    DatabaseUnavailable,
    PgflowError,
    TryLater,
)
from pgflow_cli.maintenance import migrations, tasks
from pgflow_cli.maintenance.archive import archive
from pgflow_cli.maintenance.batches import BatchRun
from pgflow_cli.maintenance.prune import prune
from pgflow_cli.models.maintenance import RetentionLimits, TaskReport
from pgflow_cli.repository import Database, Repository
from pgflow_cli.telemetry import logs

log = logging.getLogger("pgflow.maintain")

TASKS = (
    "reap",
    "archive",
    "prune",
    "partitions",
    "rate-counters",
    "workers",
    "queues",
    "analyze",
)
# Seconds of one wait for the lock; a signal is noticed between two waits.
_LOCK_SLICE = 1.0


@dataclass(frozen=True, slots=True)
class MaintenancePlan:
    """The options of a pass; durations are seconds, `dlq_retention` None means for
    ever.

    With `interval`, a pass does nothing if another one has begun within that time.
    """

    tasks: Sequence[str] = TASKS
    archive_after: float = 7 * 86_400.0
    prune_after: float = 7 * 86_400.0
    dlq_retention: float | None = None
    batch_size: int = 500
    sleep: float = 0.05
    max_runtime: float = 300.0
    lock_wait: float = 0.0
    interval: float = 0.0
    crash_budget: int = 3
    dry_run: bool = False


@dataclass
class Pass:
    """One pass. `reports` holds what was done, however it ended; `suited` says whether
    the schema was ever found to be the one we need.
    """

    database: Database
    plan: MaintenancePlan
    stopped: threading.Event = field(default_factory=threading.Event)
    reports: list[TaskReport] = field(default_factory=list)
    suited: bool = False

    def __post_init__(self) -> None:
        self.runner = f"{socket.gethostname()}-{os.getpid()}"
        named = replace(
            self.database, application_name=f"pgflow maintain {self.runner}"
        )
        self.repository, self._holder = Repository.of(named), Repository.of(named)
        self._until = time.monotonic() + self.plan.max_runtime

    @property
    def failed(self) -> bool:
        """Say whether a task failed."""
        return any(report.result == "failed" for report in self.reports)

    def run(self) -> list[TaskReport]:
        """Run every task, also after one has failed; return the reports.

        Raises `TryLater` if another session maintains, `DatabaseUnavailable` if the
        database goes away.
        """
        try:
            migrations.require_current(self.repository)
            self.suited = True
            if self.plan.dry_run:
                self._do_tasks()
            else:
                with self._elected():
                    self._until = time.monotonic() + self.plan.max_runtime
                    self._do_tasks()
        finally:
            self.repository.close()
        return self.reports

    def abandon(self) -> None:
        """Free the thread that runs this pass, also if it waits for the database."""
        self.stopped.set()
        for repository in (self.repository, self._holder):
            repository.link.cancel()
            repository.link.sever()

    @contextmanager
    def _elected(self) -> Iterator[None]:
        """Hold the lock during the block, on a connection of its own.

        Its transaction has neither a snapshot nor an id, so vacuum goes on. If we are
        killed it ends with us.
        """
        deadline = time.monotonic() + self.plan.lock_wait
        try:
            while True:
                try:
                    with self._holder.transaction():
                        self._lock(deadline)
                        yield
                        return
                except _Again:
                    continue
        finally:
            self._holder.close()

    def _lock(self, deadline: float) -> None:
        """Wait for the lock for a step; raise `_Again`, or `TryLater` at the end."""
        left = deadline - time.monotonic()
        try:
            self._holder.maintenance.begin_maintenance(
                lock_wait=min(_LOCK_SLICE, max(0.0, left))
            )
        except Contention as error:
            if left > _LOCK_SLICE and not self.stopped.is_set():
                raise _Again from error
            raise TryLater(
                f"{self._maintainer()} maintains already",
                "Try again when it has ended, or: pgflow maintain --lock-wait 5m",
            ) from error

    def _maintainer(self) -> str:
        found = self.repository.maintenance.find_maintainer()
        if found is None:
            return "another one"
        name = found.application_name.removeprefix("pgflow maintain ")
        called = f" ({name})" if name else ""
        since = f" since {found.since} UTC" if found.since else ""
        return f"pid {found.pid}{called}{since}"

    def _do_tasks(self) -> None:
        plan = self.plan
        cuts = self.repository.maintenance.find_cuts(
            archive_after=plan.archive_after,
            prune_after=plan.prune_after,
            dlq_retention=plan.dlq_retention,
            interval=plan.interval,
        )
        if plan.interval and cuts.lately:
            log.debug(
                "another process has maintained lately",
                extra={"event": "maintain_skipped"},
            )
            return
        for task in plan.tasks:
            if self.stopped.is_set():
                break
            self._do(task, cuts)

    def _do(self, task: str, cuts: RetentionLimits) -> None:
        """Run one task and record its result."""
        began = time.monotonic()
        turn = BatchRun(
            batch_size=self.plan.batch_size,
            sleep=self.plan.sleep,
            until=self._until,
            stopped=self.stopped,
            keeps_lock=self._keep_lock,
            dry_run=self.plan.dry_run,
        )
        result, detail, outage = "", "", None
        try:
            if not self.plan.dry_run:
                self.repository.maintenance.begin_task(task, runner=self.runner)
            self._duties()[task](self.repository, cuts, turn)
            result, detail = turn.result, turn.detail
        except DatabaseUnavailable as error:
            result, detail, outage = "failed", str(error), error
        except PgflowError as error:
            result, detail = "failed", ", ".join([*turn.notes, str(error)])
            log.debug(
                "%s failed",
                task,
                exc_info=True,
                extra={"event": "task_failed", "task": task},
            )
        seconds = time.monotonic() - began
        self.reports.append(
            TaskReport(
                task, result, turn.rows, turn.batches, round(seconds * 1000, 1), detail
            )
        )
        if outage is not None:
            raise outage
        if not self.plan.dry_run:
            self.repository.maintenance.finish_task(
                task, result=result, rows=turn.rows, seconds=seconds, detail=detail
            )

    def _duties(
        self,
    ) -> dict[str, Callable[[Repository, RetentionLimits, BatchRun], None]]:
        return {
            "reap": partial(tasks.reap, crash_budget=self.plan.crash_budget),
            "archive": archive,
            "prune": prune,
            "partitions": tasks.make_partitions,
            "rate-counters": tasks.prune_counters,
            "workers": tasks.forget_workers,
            "queues": tasks.forget_queues,
            "analyze": tasks.analyze,
        }

    def _keep_lock(self) -> None:
        if not self.plan.dry_run:
            self._holder.maintenance.lock_maintenance()


class _Again(Exception):
    """The lock is still held; there is time to wait for it."""


def run_forever(
    database: Database,
    plan: MaintenancePlan,
    *,
    every: float,
    stopped: threading.Event,
    begin: Callable[[Pass], None] = lambda _: None,
    tell: Callable[[Pass], None] = lambda _: None,
    suited: bool = False,
) -> None:
    """Run a pass again and again until stopped; no outage ends it.

    Raises `ConfigurationError` if from the start the schema is missing or too old,
    unless it has `suited` before.
    `begin` is given each pass before it runs, `tell` when something has been done.
    """
    told: set[tuple[str, str]] = set()
    while not stopped.is_set():
        began = time.monotonic()
        current = Pass(database, plan, stopped, suited=suited)
        begin(current)
        try:
            current.run()
        except DatabaseUnavailable as error:
            log.warning(
                "database unavailable: %s",
                error,
                extra=logs.trouble("database_unavailable", error),
            )
        except TryLater as error:
            log.debug("%s", error, extra={"event": "maintain_skipped"})
        except PgflowError as error:
            if isinstance(error, ConfigurationError) and not current.suited:
                raise
            log.warning(
                "maintain failed: %s",
                error,
                extra=logs.trouble("maintain_failed", error),
            )
        suited = current.suited
        if current.reports:
            _summarize(current, told)
            tell(current)
        pause = every - (time.monotonic() - began)
        # Random, so that processes do not all start at the same moment after an outage.
        stopped.wait(max(0.5, pause) * random.uniform(0.9, 1.0))  # noqa: S311


def _summarize(done: Pass, told: set[tuple[str, str]]) -> None:
    """Log the result of a pass; a failure with the same reason as before is logged
    once.
    """
    failures = {(r.task, r.detail) for r in done.reports if r.result == "failed"}
    for task, detail in sorted(failures - told):
        log.warning(
            "maintain: %s failed: %s",
            task,
            detail,
            extra={"event": "maintain_failed", "task": task},
        )
    told.clear()
    told.update(failures)
    worked = [
        f"{report.task} {report.rows:,}" for report in done.reports if report.rows
    ]
    log.log(
        logging.INFO if worked else logging.DEBUG,
        "maintain: %s",
        ", ".join(worked) or "nothing to do",
        extra={"event": "maintain", "rows": {r.task: r.rows for r in done.reports}},
    )
