"""The shape of what operators oversee: processes, decisions, actions, policies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

STATES = {
    "busy": "leases jobs, and runs some",
    "idle": "leases jobs, and finds none",
    "quiet": "leases nothing until it is resumed: an operator or a signal said so",
    "retiring": "leases nothing more: a handler outran its end; it has been replaced, "
    "and ends after its other jobs",
    "restarting": "has no process now: it ended or could not be started, and its "
    "supervisor starts another",
    "spare": "runs one job apart, of which processes have died",
    "stalled": "leases nothing, though due jobs wait that it may run",
    "silent": "was not heard of for longer than its lease",
}
"""What a worker process does, and what that means."""


@dataclass(frozen=True, slots=True)
class ListedWorker:
    """A worker process; `state` is one of `STATES`.

    `queues` and `job_types` are None for all of them.
    """

    worker_id: str
    name: str
    state: str
    host: str
    pid: int
    busy_slots: int
    slots: int
    held_jobs: int
    queues: list[str] | None
    handlers: int | None
    job_types: list[str] | None
    code_version: str | None
    last_heartbeat: datetime
    last_leased_at: datetime | None
    started_at: datetime
    lease_seconds: int
    supervisor_id: str

    @property
    def slots_in_use(self) -> str:
        """Return busy slots of all, as a screen has them."""
        return f"{self.busy_slots}/{self.slots}"

    @property
    def served(self) -> str:
        """Return the queues that it serves."""
        return "*" if self.queues is None else ",".join(self.queues)

    @property
    def position(self) -> tuple[datetime, str]:
        """Where in the list it stands that begins with the one started last."""
        return self.started_at, self.worker_id


@dataclass(frozen=True, slots=True)
class QueueBound:
    """How many queues there may be and are; each priority of one counts."""

    max_queues: int
    in_use: int


MAX_QUEUES = (1, 100_000)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy held back or the gate refused in a minute, `count` times."""

    id: str
    kind: str
    minute: datetime
    last_at: datetime
    first_at: datetime
    queue: str
    decision: str
    reason_code: str
    count: int
    sample_job_id: str | None
    details_json: dict[str, object]

    @property
    def created_at(self) -> datetime:
        """Return when it was first decided, under its name in HTTP."""
        return self.first_at

    @property
    def position(self) -> tuple[datetime, str]:
        """Where in the list it stands."""
        return self.first_at, self.id


@dataclass(frozen=True, slots=True)
class DecisionGroup:
    """Decisions of one queue and reason."""

    queue: str
    kind: str
    reason_code: str
    count: int
    first_at: datetime
    last_at: datetime
    sample_job_id: str | None


@dataclass(frozen=True, slots=True)
class OperatorAction:
    """A change by an operator; `unfinished` if it runs, or was ended half-way."""

    id: str
    created_at: datetime
    actor: str
    role: str
    action: str
    queue: str | None
    jobs: int
    state: str
    finished_at: datetime | None
    note: str | None
    plan_id: int | None
    command: str
    details_json: dict[str, object]

    @property
    def position(self) -> tuple[datetime, str]:
        """Where in the list it stands."""
        return self.created_at, self.id


LIMITS = {
    "max_in_flight": (0, 1_000_000),
    "max_attempts_per_minute": (0, 100_000_000),
    "throttle_delay_ms": (0, 3_600_000),
    "max_payload_bytes": (2, 16_777_216),
    "max_enqueue_per_minute": (0, 2_147_483_647),
}
"""The limits of a policy: the least and the most that each may be."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Limits and the pause of a queue; None: no limit of its own.

    `paused_until` is text: it may be infinity.
    """

    queue: str
    max_in_flight: int | None = None
    max_attempts_per_minute: int | None = None
    throttle_delay_ms: int | None = None
    max_payload_bytes: int | None = None
    max_enqueue_per_minute: int | None = None
    paused_until: str | None = None
    paused_by: str | None = None
    pause_note: str | None = None


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Jobs of a queue that are due, yet to come, dead; none counted past the limit."""

    queued: int
    scheduled: int
    dlq: int
