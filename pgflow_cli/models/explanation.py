"""The evidence for an explanation: rows of one instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pgflow_cli.models.fence import DatabaseIdentity
from pgflow_cli.models.workers import WorkerProcess


@dataclass(frozen=True, slots=True)
class JobDescription:
    """A job, its state, and its place in the queue.

    Instants are text in ISO 8601 UTC; `due_in` and `lease_expires_in` are seconds,
    below zero for what is past. `status` is None for a job that is in no place. `rank`
    is None unless it waits; `done` of `total` is what its handler reports while it
    runs. `action_ids` are those of operators who ended it.
    """

    as_of: str
    job_id: str
    queue: str
    job_type: str
    status: str | None
    priority: int
    max_attempts: int
    attempt_no: int
    created_at: str
    run_at: str
    due_in: float
    rank: int | None
    replay_of_job_id: str | None
    last_error_code: str | None
    last_error_message: str | None
    dlq_reason_code: str | None
    fingerprint: str | None
    suggested_action: str | None
    attempts: int
    failed_attempts: int
    lost_attempts: int
    worker_name: str | None
    lease_expires_at: str | None
    lease_expires_in: float | None
    dlq_at: str | None
    resolved_at: str | None
    resolution: str | None
    replay_job_id: str | None
    canceled_at: str | None
    canceled_by: str | None
    cancel_note: str | None
    leased_at: str | None
    held_for: float | None
    done: str | None
    total: str | None
    ended_at: str | None
    action_ids: list[int]


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended; `next_in` is the seconds from its end to the next run."""

    attempt_no: int
    status: str
    started_at: str
    finished_at: str
    latency_ms: float
    next_in: float | None
    worker_id: str
    error_code: str | None
    error_message: str | None
    suggested_action: str | None
    code_version: str | None


@dataclass(frozen=True, slots=True)
class QueueGates:
    """The conditions that keep a whole queue from being leased, and who set them.

    Instants are text in ISO 8601 UTC, times from now are seconds. What is None is not
    set: without a limit nothing is counted. `throttled_by` is the reason of the present
    throttle.
    """

    paused: bool
    paused_at: str | None
    paused_until: str | None
    paused_by: str | None
    pause_note: str | None
    throttled: bool
    throttled_until: str | None
    throttled_for: float | None
    throttled_by: str | None
    max_in_flight: int | None
    in_flight: int | None
    max_attempts_per_minute: int | None
    attempts_last_minute: int | None
    next_free_at: str | None
    next_free_in: float | None


@dataclass(frozen=True, slots=True)
class Holder:
    """A job that counts against its queue's limit of jobs in flight, or takes a slot of
    a worker.
    """

    job_id: str
    worker_id: str
    held_for: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """The number of due jobs ahead of one, and of all due jobs in its queue.

    Both are counted no further than `LIMIT` + 1.
    """

    LIMIT: ClassVar[int] = 10_000

    ahead: int
    due: int


@dataclass(frozen=True, slots=True)
class Rates:
    """The jobs that enter a queue, and that leave it for good, per second.

    Measured over a `window` of seconds; `samples` is the number of both.
    """

    arrivals_per_second: float
    completions_per_second: float
    samples: int
    window: float


@dataclass(frozen=True, slots=True)
class Decision:
    """A policy decision about the job's queue; `count` times in its minute."""

    id: int
    first_at: str
    last_at: str
    count: int
    decision: str
    reason_code: str
    details_json: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    """The action of an operator on a job, or (not `own`) on its whole queue."""

    id: int
    at: str
    actor: str
    action: str
    note: str | None
    command: str
    own: bool


@dataclass(frozen=True, slots=True)
class RelatedJob:
    """A job that another one replays (`is_source`), or that replays it, in `step`s.

    `status` and `created_at` are None if it was removed.
    """

    is_source: bool
    step: int
    job_id: str
    status: str | None
    created_at: str | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """The jobs that one job replays, and the jobs that replay it."""

    job_id: str
    status: str | None
    source_id: str | None
    replay_id: str | None
    created_at: str


@dataclass(frozen=True, slots=True)
class Similar:
    """Other dead letters of the same error, recent ones and all, and its first
    occurrence.

    Both are counted no further than `Backlog.LIMIT` + 1.
    """

    recent: int
    total: int
    window_seconds: float
    first_seen_at: str | None
    first_code_version: str | None


@dataclass(frozen=True, slots=True)
class JobEvidence:
    """The evidence about one job at one instant.

    `backlog` and `rates` only of a job that waits, `holders` where a limit holds it up,
    `slot_holders` where every slot is busy, `similar` of one that has failed.
    """

    job: JobDescription
    attempts: list[Attempt]
    workers: list[WorkerProcess]
    identity: DatabaseIdentity
    queue: QueueGates
    backlog: Backlog | None = None
    rates: Rates | None = None
    holders: list[Holder] = field(default_factory=list)
    slot_holders: list[Holder] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    kin: list[RelatedJob] = field(default_factory=list)
    similar: Similar | None = None

    @property
    def replay(self) -> RelatedJob | None:
        """The job that replays this one, the latest of several."""
        later = (each for each in self.kin if each.step == 1 and not each.is_source)
        return next(later, None)
