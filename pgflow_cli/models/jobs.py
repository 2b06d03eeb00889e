"""Rows of jobs, leases and attempts; field names are column names."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID


class LeasedJob(NamedTuple):
    """A job as a worker receives it. Every field is a text or a number, so that no
    field can fail to decode. A tuple, because it is made for every job.

    `run_at` is UTC, `YYYY-MM-DD HH:MM:SS.ffffff`, so that it sorts as text.
    `failed_attempts` and `lost_attempts` are what the ledger holds so far; `attempt_no`
    is the number of the attempt this lease would be.
    """

    lease_id: str
    job_id: str
    queue: str
    rank: int
    run_at: str
    attempt_no: int
    job_type: str
    payload: str
    max_attempts: int
    timeout_ms: int | None
    meta: str | None
    replay_of_job_id: str | None
    failed_attempts: int
    lost_attempts: int


class Settlement(NamedTuple):
    """How one job of a lease ended; `started_ago` and `ended_ago` are seconds before it
    is sent. A tuple, because it is made for every job.

    `status` is succeeded, failed, snoozed, released, canceled; or `unstarted`: given
    back as it was; or `left`: the worker has nothing more to say of it, and unless it
    is settled already, its attempt counts as lost. A failed job with `dlq_reason_code`
    is dead-lettered, one with a `delay` in seconds goes back to pending.
    """

    lease_id: str
    job_id: str
    attempt_no: int
    status: str
    started_ago: float = 0.0
    ended_ago: float = 0.0
    delay: float | None = None
    dlq_reason_code: str | None = None
    failed_attempts: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_fingerprint: str | None = None
    run_at: str | None = None

    def as_json(self) -> dict[str, object]:
        """Return the fields that are set, as the statement reads them."""
        fields = self._asdict()
        return {name: value for name, value in fields.items() if value is not None}


Place = tuple[str, int]  # queue, rank
Position = tuple[str, str]  # run_at as text, job id


@dataclass(frozen=True, slots=True)
class Scan:
    """Where a lease scans: from the cursors, or without them from the front of each
    queue. Queues take turns, beginning after `last_queue`.
    """

    cursors: dict[Place, Position] = field(default_factory=dict)
    last_queue: str = ""


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """One request of a worker's connection: outcomes to settle, and how many jobs to
    lease. `queues` and `job_types` None mean all.

    `closed` are leases that the worker has finished; the statement removes their rows
    if they are empty. `again`: the outcomes were sent before, and the reply was lost.
    """

    worker_id: str
    worker_name: str
    code_version: str | None
    batch_id: str
    lease_seconds: float
    queues: list[str] | None
    job_types: list[str] | None
    room: int
    scan: Scan
    settlements: list[Settlement]
    closed: list[str]
    again: bool = False


@dataclass(frozen=True, slots=True)
class LeaseReply:
    """`scanned_at` is the instant of the scan as text; `lost` the ids of jobs whose
    outcome came too late. `jobs` stand lease by lease in the order they run.

    Of queues with a limit and a due job, `limited_open` may be asked by `lease_limited`
    now, and `limited_waiting` may give jobs at some time.
    """

    scanned_at: str
    lost: list[str]
    jobs: list[LeasedJob]
    limited_open: int = 0
    limited_waiting: int = 0


class FirstDue(NamedTuple):
    """The first due entry behind the cursor of a place (queue and rank): its `run_at`,
    as text. For a place without a cursor, its first due entry.

    `looked_at` is the instant of the look, and `took` the seconds that it took the
    server so far. `spent`: whether the queue's limit leaves no room now; None without
    a limit.
    """

    queue: str
    rank: int
    run_at: str | None
    looked_at: str
    took: float
    spent: bool | None = None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A job that is dead-lettered if it loses one more process. It is in the lease of a
    process that does not run it; `rank` and `run_at` are its place in the queue.
    """

    worker_id: str
    lease_id: str
    job_id: str
    rank: int
    run_at: str


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that a lease still held when the lease was ended for it."""

    job_id: str
    queue: str
    job_type: str
    attempt_no: int
    worker_name: str
    started: bool
    dead_lettered: bool


@dataclass(frozen=True, slots=True)
class UnreadableJob:
    """A due job whose row cannot be read, and why."""

    job_id: str
    queue: str
    job_type: str
    error_message: str


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job shall run; None everywhere means the gate's default. Times to wait are
    in seconds, `meta` is JSON text.

    The last two guard queues whose policy does not say.
    """

    queue: str | None = None
    priority: int | None = None
    max_attempts: int | None = None
    run_at: datetime | None = None
    delay: float | None = None
    job_timeout: float | None = None
    meta: str | None = None
    max_payload_bytes: int | None = None
    max_enqueue_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job has ended: succeeded, dlq or canceled."""

    job_id: str
    status: str
    error_code: str | None


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job found by the end of its id, and the table where it was found."""

    job_id: str
    place: str
    queue: str


@dataclass(frozen=True, slots=True)
class TypeCounts:
    """The jobs of one queue and type, by status; `attempts` are those of all."""

    queue: str
    job_type: str
    queued: int
    scheduled: int
    running: int
    succeeded: int
    dlq: int
    canceled: int
    attempts: int


_LAST = 253_402_300_799_000  # milliseconds: the last instant of Python's datetime


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job in the form of `GET /jobs`.

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
        """Its position in the list, for the next page."""
        return self.at or self.created_at or time_of(self.id), self.id


def time_of(job_id: str) -> datetime:
    """Return the time in an id: the first 48 bits of a UUIDv7 are its milliseconds."""
    return datetime.fromtimestamp(min(UUID(job_id).int >> 80, _LAST) / 1000, UTC)


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that has ended, with the fields of its job."""

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
