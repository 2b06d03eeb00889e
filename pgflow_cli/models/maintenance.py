"""Rows of maintenance: days, their partitions, and counts of moved rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

JOBS = "jobs"
ATTEMPTS = "job_attempts"
SUCCESSES = "job_successes"


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """Times before which rows are archived or pruned; all from one `now`.

    `archived` is for jobs in the archive, `dlq` is text, because it may be infinite.
    `lately`: a pass of maintain has run within the given interval.
    """

    now: datetime
    archive: datetime
    prune: datetime
    archived: datetime
    dlq: str
    lately: bool


@dataclass(frozen=True, slots=True)
class PartitionDay:
    """A day of UTC, as in the names of partitions, and the tables that have one."""

    day: str
    first_id: str
    end_id: str
    parents: Sequence[str]
    swept_lately: bool

    @property
    def ends_at(self) -> datetime:
        """Return the first instant of the next day."""
        number = int(self.day)
        day = date(number // 10_000, number // 100 % 100, number % 100)
        following = day + timedelta(days=1)
        return datetime(following.year, following.month, following.day, tzinfo=UTC)

    def named(self) -> str:
        """Return the day in ISO 8601."""
        return f"{self.day[:4]}-{self.day[4:6]}-{self.day[6:]}"


@dataclass(frozen=True, slots=True)
class Transfer:
    """The statements that move a day's partition to the archive, or drop it; `checked`:
    its check constraint is valid, so every row belongs to the day.
    """

    lock: str
    checked: bool
    checks: list[str]
    statements: list[str]
    fold: list[str]
    estimate: int


@dataclass(frozen=True, slots=True)
class Moved:
    """The rows that a batch has read, and the jobs and attempts that it moved or
    removed.
    """

    looked: int
    last_id: str | None
    jobs: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Removed:
    """The rows that a batch has read, and the jobs and attempts that it removed."""

    looked: int
    jobs: int
    attempts: int


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The report of a task in one pass; `batches` is None for tasks without batches."""

    task: str
    result: str
    rows: int
    batches: int | None
    took_ms: float
    detail: str
