"""The shape of each row; field names are column names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, NamedTuple


class LeasedJob(NamedTuple):
    """A job as a worker receives it. Everything is text or number: nothing here can
    fail to decode. A tuple, because it is made for every job.

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
    """Where a lease looks: from the cursors, or with none from the front; after
    `last_queue` in turn.
    """

    cursors: dict[Place, Position] = field(default_factory=dict)
    last_queue: str = ""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One turn of a worker: what it settles, and how much it would lease. `queues` and
    `job_types`: None means all.

    `closed` are leases that the worker has done with; the statement decides whether
    their rows go. `again`: what it settles was sent before, and the reply was lost.
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
class CycleReply:
    """`scanned_at` is the instant of the scan as text; `lost` the ids of jobs whose
    outcome came too late.

    Of queues with a limit and a due job, `limited_open` may be asked by `lease_limited`
    now, and `limited_waiting` may give jobs at some time.
    """

    scanned_at: str
    lost: list[str]
    jobs: list[LeasedJob]
    limited_open: int = 0
    limited_waiting: int = 0


class FirstDue(NamedTuple):
    """What a look found in a place: `run_at` of its first due entry behind the cursor,
    as text; of a place without a cursor, of its first due entry.

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
    """A job that one more loss of its process condemns, in the lease of a process that
    does not run it; `rank` and `run_at` are its place in the queue.
    """

    worker_id: str
    lease_id: str
    job_id: str
    rank: int
    run_at: str


@dataclass(frozen=True, slots=True)
class BeatReply:
    """What came of a heartbeat: `leases` still exist, `canceled` jobs of them are to
    stop, by lease; the workers in `quiet` are to lease nothing, the others may.
    """

    leases: set[str]
    canceled: dict[str, list[str]]
    quiet: set[str]


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
class ServerFacts:
    """What must be known of a server and a database before anything is made there."""

    version_number: int
    version: str
    database: str
    encoding: str
    in_recovery: bool
    has_schema: bool
    has_migrations: bool


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """A version of the schema that has been applied; `applied_at` is ISO 8601, UTC."""

    version: int
    name: str
    checksum: str
    applied_at: str
    applied_by: str


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """A version and whether it has been applied; `drift`: its file was edited since."""

    version: int
    name: str
    applied_at: str | None
    applied_by: str | None
    drift: bool
    pending: bool


@dataclass(frozen=True, slots=True)
class ReplacedSchema:
    """A schema that a restore has put aside and left; `way_back` is SQL."""

    name: str
    way_back: str

    def hints(self) -> tuple[str, ...]:
        """Say what it is, and how to bring it back."""
        return (
            f"A restore that was killed has put schema {self.name} aside: what was "
            "there before.",
            f"To bring it back, in psql: {self.way_back}",
        )


@dataclass(frozen=True, slots=True)
class SchemaLockHolder:
    """Who is changing the schema; `since` is UTC, or empty where it may not be seen."""

    pid: int
    application_name: str
    role: str
    since: str
    state: str


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """A missing day partition and the statements that make it.

    `strays` is how many rows of that day the default partition holds, counted no
    further than may be moved.
    """

    name: str
    strays: int
    statements: list[str]


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker process; `queues` and `job_types` are None for all of them.

    `quiet`: an operator or a signal had it lease nothing. `retiring`: it is replaced,
    and ends after its other jobs. `spare`: it runs one suspect. `stalled_for`: the
    seconds for which it has leased nothing though due jobs wait for it; None: it does
    lease, or has reason not to. `deaths`: there is no process, and its supervisor
    starts another: so many have died one after the other, or could not be started.
    """

    name: str
    host: str
    pid: int
    alive: bool
    silent_for: float
    quiet: bool
    slots: int
    busy_slots: int
    queues: list[str] | None
    job_types: list[str] | None
    code_version: str | None
    retiring: bool = False
    spare: bool = False
    stalled_for: float | None = None
    deaths: int | None = None

    def serves(self, queue: str) -> bool:
        """Say whether it leases jobs of the queue at all."""
        idle = self.quiet or self.retiring or self.spare or self.deaths is not None
        return self.alive and not idle and self.is_of(queue)

    def is_of(self, queue: str) -> bool:
        """Say whether the queue is among those it was started for."""
        return self.queues is None or queue in self.queues

    def takes(self, queue: str, job_type: str) -> bool:
        """Say whether it leases such jobs."""
        knows = self.job_types is None or job_type in self.job_types
        return self.serves(queue) and knows


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job whose id ends as was asked, and where it was found."""

    job_id: str
    place: str
    queue: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Jobs in no place, jobs in two places, and places that name a job that is not.

    `examples` are the first ids; None if all is well.
    """

    in_no_place: int
    in_two_places: int
    without_job: int
    examples: Sequence[str] | None = None


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


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that will not run again by itself, under the names of the API.

    What belongs to the job itself is None where the job is gone already.
    """

    status: ClassVar[str] = "dlq"

    id: str
    queue: str
    job_type: str
    dlq_at: datetime
    failed_attempts: int
    attempt_no: int
    max_attempts: int | None
    dlq_reason_code: str
    last_error_code: str | None
    last_error_message: str | None
    fingerprint: str | None
    code_version: str | None
    priority: int | None
    run_at: datetime | None
    created_at: datetime | None
    updated_at: datetime
    resolved_at: datetime | None
    resolution: str | None
    replay_job_id: str | None
    replay_of_job_id: str | None
    worker_id: str | None

    @property
    def short_id(self) -> str:
        """Return the end of the id, as screens show it."""
        return self.id[-8:]

    @property
    def tries(self) -> str:
        """Return how much of its attempts it has spent."""
        of = "" if self.max_attempts is None else f"/{self.max_attempts}"
        return f"{self.failed_attempts}{of}"

    @property
    def position(self) -> tuple[datetime, str]:
        """Return where it stands in a list."""
        return self.dlq_at, self.id

    @property
    def lease_expires_at(self) -> datetime | None:
        """Return None, as lists of jobs have it: nobody holds it."""
        return None


@dataclass(frozen=True, slots=True)
class Operator:
    """Who changes something, by what command, and what they noted; nothing secret."""

    actor: str
    command: str
    note: str | None = None
