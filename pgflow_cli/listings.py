"""The shape of each row of the lists that operators read; field names are JSON keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

_LAST = 253_402_300_799_000  # milliseconds: what Python calls a date ends here


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job as `GET /jobs` has it.

    `at` is the time by which its list is ordered, None where that is the id's own.
    `looked` is set in a last row that is no job: so many were looked at, and the last
    of them was this.
    """

    at: datetime | None
    id: str
    queue: str
    job_type: str
    status: str | None
    run_at: datetime
    priority: int
    max_attempts: int
    last_error_code: str | None
    last_error_message: str | None
    dlq_reason_code: str | None
    created_at: datetime | None
    updated_at: datetime
    short_id: str
    attempt_no: int
    dlq_at: datetime | None
    fingerprint: str | None
    resolved_at: datetime | None
    replay_of_job_id: str | None
    worker_id: str | None
    lease_expires_at: datetime | None
    looked: int | None

    @property
    def position(self) -> tuple[datetime, str]:
        """Where in its list it stands."""
        return self.at or self.created_at or time_of(self.id), self.id


def time_of(job_id: str) -> datetime:
    """Return the time in an id: the first 48 bits of a UUIDv7 are its milliseconds."""
    return datetime.fromtimestamp(min(UUID(job_id).int >> 80, _LAST) / 1000, UTC)


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that has ended, and what its job is."""

    job_id: str
    queue: str | None
    job_type: str | None
    attempt_no: int
    status: str
    started_at: datetime
    finished_at: datetime
    latency_ms: float
    worker_id: str
    error_code: str | None
    error_message: str | None
    code_version: str | None
