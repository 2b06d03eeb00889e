"""The shape of rows about upkeep: days, their partitions, and what was moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

JOBS = "jobs"
ATTEMPTS = "job_attempts"
SUCCESSES = "job_successes"


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """Times before which things have rested for long enough; all of one `now`.

    `archived` is for jobs in the archive, `dlq` is text, because it may be infinite.
    `lately`: somebody has maintained within the interval that was asked about.
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
        """Return the day as people write it."""
        return f"{self.day[:4]}-{self.day[4:6]}-{self.day[6:]}"


@dataclass(frozen=True, slots=True)
class Transfer:
    """How a day's partition is given to the archive, or given up; `checked`: it is
    known of every row that it belongs to the day.
    """

    lock: str
    checked: bool
    checks: list[str]
    statements: list[str]
    fold: list[str]
    estimate: int


@dataclass(frozen=True, slots=True)
class Moved:
    """What a batch looked at, and the jobs and attempts that it moved or removed."""

    looked: int
    last_id: str | None
    jobs: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Removed:
    """What a batch looked at, and the jobs and attempts that it removed."""

    looked: int
    jobs: int
    attempts: int


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What a task of one pass did; `batches` is None for what has none."""

    task: str
    result: str
    rows: int
    batches: int | None
    took_ms: float
    detail: str
