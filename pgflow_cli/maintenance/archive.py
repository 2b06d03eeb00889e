"""Moves jobs to the archive some time after they succeeded: whole days, or row by row.

A day moves as a partition: it is detached from the live table and attached to the
archive, in a time that does not depend on its size. Its jobs that have not succeeded
(stragglers) move to the default partition first. A day with many stragglers keeps its
partition, and its succeeded jobs move in batches.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from pgflow_cli.errors import Contention
from pgflow_cli.maintenance.batches import BatchRun
from pgflow_cli.models.maintenance import (
    ATTEMPTS,
    JOBS,
    SUCCESSES,
    Moved,
    PartitionDay,
    RetentionLimits,
    Transfer,
)
from pgflow_cli.models.schema import PartitionPlan
from pgflow_cli.repository import Repository

Result = TypeVar("Result")

FEW = 1000  # stragglers that move while other sessions wait for the lock: some 20 ms
EXACT = 100_000  # rows that are counted for the report; more are estimated
# How long a day waits for its late jobs before they count as stragglers.
GRACE = timedelta(days=1)

# Seconds that other sessions may wait behind a lock request of ours, and behind each
# statement of the change. After a failed try they get the lock before the next try.
_LOCK_TIMEOUT = 0.2
_PATIENCE = 1.5
_TRIES = 4  # tries of one change before it is left to the next pass
# Seconds to search for stragglers; only sessions that write to the old day wait
# meanwhile.
_LOOK_SECONDS = 30.0


class _TooMany(Exception):
    """There are too many stragglers to move while other sessions wait."""


def archive(repository: Repository, cuts: RetentionLimits, turn: BatchRun) -> None:
    """Move the jobs that succeeded before `cuts.archive` to the archive."""
    turn.notes.append(f"succeeded before {cuts.archive:%Y-%m-%d %H:%M} UTC")
    for day in repository.archive.list_partition_days(before=cuts.archive):
        if not {JOBS, ATTEMPTS, SUCCESSES}.isdisjoint(day.parents) and turn.may_go_on():
            with turn.passing_over_damage():
                _Day(repository, day, cuts, turn).archive()
    with turn.passing_over_damage():
        _archive_strays(repository, cuts, turn)
    if not turn.dry_run:
        repository.archive.forget_sweeps()


class _Day:
    """Archives one past day: its jobs first, then their attempts and successes.

    Each table in a transaction of its own and in this order, because a settlement locks
    these tables, too. Between two of them, queries still find a job's attempts in the
    live table.
    """

    def __init__(
        self,
        repository: Repository,
        day: PartitionDay,
        cuts: RetentionLimits,
        turn: BatchRun,
    ) -> None:
        self.repository, self.day, self.cuts, self.turn = repository, day, cuts, turn

    def archive(self) -> None:
        """Move the day to the archive, or the part of it that may move."""
        if self._waits():
            return
        try:
            if self.turn.dry_run:
                self._preview()
            elif self._give(JOBS):
                self._give(ATTEMPTS)
                self._give(SUCCESSES)
        except Contention as error:
            self.turn.put_off(f"{self.day.named()} put off: {error}")

    def _waits(self) -> bool:
        """Return whether the day must wait, because its last jobs ended too
        recently.
        """
        if JOBS not in self.day.parents:
            return False
        recent = self.day.ends_at > self.cuts.archive - GRACE
        return recent and self.repository.archive.has_late_attempts(
            self.day, since=self.cuts.archive
        )

    def _give(self, parent: str) -> bool:
        """Move one partition of the day to the archive; return whether it moved."""
        if parent not in self.day.parents:
            return True
        if f"{parent}_archive" not in self.day.parents:
            if self._give_whole(parent):
                return True
            if self.day.swept_lately:
                return False
            self._make_archive()
        elif self.day.swept_lately:
            return False
        if not self._sweep():
            return False
        return self._fold(parent)

    def _staying(self, parent: str) -> list[str]:
        """Return the stragglers; raise `_TooMany` if there are too many."""
        if parent == JOBS:
            found = self.repository.archive.list_stragglers(
                self.day, cut=self.cuts.archive, limit=FEW + 1
            )
        else:
            found = self.repository.archive.list_jobs_of_day(self.day, limit=FEW + 1)
        if len(found) > FEW:
            raise _TooMany
        return found

    def _give_whole(self, parent: str) -> bool:
        try:
            staying = self._staying(parent)
            plan = self.repository.archive.plan_transfer(parent, self.day)
            if plan is not None and not plan.checked:
                self.repository.archive.check_partition(
                    plan.checks, lock_timeout=_LOCK_TIMEOUT
                )
            staying = _patiently(self.turn, lambda: self._hand_over(parent))
        except _TooMany:
            return False
        if parent == JOBS:
            size = self.repository.archive.measure_partition(
                f"{JOBS}_archive", self.day, limit=EXACT
            )
            self.turn.count(size)
            kept = f", {len(staying):,} stay" if staying else ""
            about = "about " if size >= EXACT else ""
            self.turn.notes.append(
                f"{self.day.named()} whole ({about}{size:,} jobs{kept})"
            )
        return True

    def _hand_over(self, parent: str) -> list[str]:
        """Detach and attach in one transaction; return the jobs that stayed."""
        with self.repository.transaction():
            plan = self._locked(parent)
            if plan is None:  # another session did it
                return []
            staying = self._staying(parent)
            plan = self.repository.archive.plan_transfer(
                parent, self.day, staying=staying
            )
            assert plan is not None
            self.repository.schema.make_partition(plan.statements, patience=_PATIENCE)
        return staying

    def _locked(self, parent: str) -> Transfer | None:
        """Lock the day against writes; after that only the states of its stragglers can
        change.
        """
        self.repository.schema.begin_schema_change(
            lock_wait=_LOCK_TIMEOUT, lock_timeout=_LOCK_TIMEOUT
        )
        plan = self.repository.archive.plan_transfer(parent, self.day)
        if plan is not None:
            self.repository.schema.make_partition([plan.lock], patience=_LOOK_SECONDS)
        return plan

    def _make_archive(self) -> None:
        """Make the archive's partitions for rows of the day."""
        for plan in self.repository.archive.plan_archive_partition(self.day):
            _patiently(self.turn, lambda p=plan: run(self.repository, p))  # type: ignore[misc]

    def _sweep(self) -> bool:
        """Move succeeded jobs in batches; return whether all rows were read."""
        after: str | None = None

        def batch() -> Moved:
            return self.repository.archive.archive_jobs_of_day(
                self.day,
                after=after,
                cut=self.cuts.archive,
                limit=self.turn.batch_size,
            )

        def step() -> tuple[int, bool]:
            nonlocal after
            moved = batch()
            after = moved.last_id or after
            return moved.jobs, moved.looked >= self.turn.batch_size

        moved = self.turn.repeat(step)
        if moved:
            self.turn.notes.append(f"{self.day.named()} in part ({moved:,} jobs)")
        return not self.turn.over

    def _fold(self, parent: str) -> bool:
        """Move the remaining rows to the default partition and drop the day's, if there
        are few.
        """
        try:
            _patiently(self.turn, lambda: self._hand_back(parent))
        except _TooMany:
            self.repository.archive.remember_sweep(self.day)
            return False
        return True

    def _hand_back(self, parent: str) -> None:
        with self.repository.transaction():
            plan = self._locked(parent)
            if (
                len(self.repository.archive.list_jobs_of_day(self.day, limit=FEW + 1))
                > FEW
            ):
                raise _TooMany
            if plan is not None:
                self.repository.schema.make_partition(plan.fold, patience=_PATIENCE)

    def _preview(self) -> None:
        if JOBS not in self.day.parents:
            return
        size = self.repository.archive.measure_partition(JOBS, self.day, limit=EXACT)
        try:
            stay = len(self._staying(JOBS))
        except _TooMany:
            how = f"{self.day.named()} in batches, with more than {FEW:,} that stay"
        else:
            how = f"{self.day.named()} whole ({size:,} jobs, {stay:,} stay)"
            self.turn.count(max(0, size - stay))
        self.turn.notes.append(how)


def run(repository: Repository, plan: PartitionPlan) -> None:
    """Run statements that change partitions; short timeouts keep other sessions from
    waiting.
    """
    with repository.transaction():
        repository.schema.begin_schema_change(
            lock_wait=_LOCK_TIMEOUT, lock_timeout=_LOCK_TIMEOUT
        )
        repository.schema.make_partition(plan.statements, patience=_PATIENCE)


def run_patiently(repository: Repository, plan: PartitionPlan, turn: BatchRun) -> None:
    """Run statements that change partitions, and repeat them if a lock was not free."""
    _patiently(turn, lambda: run(repository, plan))


def _patiently(turn: BatchRun, change: Callable[[], Result]) -> Result:
    """Repeat `change` if a lock was not free, after a pause in which other sessions get
    it.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            return change()
        except Contention:
            if attempt == _TRIES or turn.stopped.is_set():
                raise
            turn.stopped.wait(random.uniform(0.2, 0.6) * attempt)  # noqa: S311
    raise AssertionError("the last try returns or raises")


def _archive_strays(
    repository: Repository, cuts: RetentionLimits, turn: BatchRun
) -> None:
    """Move jobs in the default partition: stragglers, and jobs with old ids."""
    if turn.dry_run:
        count = repository.archive.count_stray_jobs(cut=cuts.archive, limit=EXACT)
        turn.count(count)
        return
    after: str | None = None

    def step() -> tuple[int, bool]:
        nonlocal after
        moved = repository.archive.archive_stray_jobs(
            after=after, cut=cuts.archive, limit=turn.batch_size
        )
        after = moved.last_id or after
        return moved.jobs, moved.looked >= turn.batch_size

    moved = turn.repeat(step)
    if moved:
        turn.notes.append(f"{moved:,} jobs of other days")
