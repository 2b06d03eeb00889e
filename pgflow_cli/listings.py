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


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """A worker process; `worker_id` is its name, `incarnation` its own alone.

    `state` is alive, quiet or silent; `queues` and `job_types` are None for all.
    """

    incarnation: str
    worker_id: str
    state: str
    busy_slots: int
    slots: int
    queues: list[str] | None
    last_heartbeat: datetime
    code_version: str | None
    host: str
    pid: int
    job_types: list[str] | None
    last_leased_at: datetime | None
    started_at: datetime
    lease_seconds: int
    supervisor_id: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a guard refused or a policy held back in one minute of a queue."""

    id: int
    kind: str
    queue: str
    decision: str
    reason_code: str
    count: int
    minute: datetime
    created_at: datetime
    last_at: datetime
    sample_job_id: str | None
    details_json: dict[str, object]

    @property
    def position(self) -> tuple[datetime, str]:
        """Where in its list it stands."""
        return self.minute, f"{self.kind}-{self.id}"


@dataclass(frozen=True, slots=True)
class DecisionGroup:
    """All decisions of a queue for one reason."""

    kind: str
    queue: str
    reason_code: str
    count: int
    minutes: int
    first_at: datetime
    last_at: datetime
    sample_job_id: str | None


@dataclass(frozen=True, slots=True)
class RecordedAction:
    """What an operator did; `state` is done or unfinished."""

    id: int
    at: datetime
    actor: str
    action: str
    queue: str | None
    jobs: int
    state: str
    note: str | None
    role: str
    command: str
    finished_at: datetime | None
    plan_id: int | None
    details_json: dict[str, object]

    @property
    def position(self) -> tuple[datetime, str]:
        """Where in its list it stands."""
        return self.at, str(self.id)
