"""Rows that are measured about queues, and about the database as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pgflow_cli.models.workers import WorkerProcess


@dataclass(frozen=True, slots=True)
class QueueBound:
    """The limit and the number of queues; each priority of one counts."""

    max_queues: int
    in_use: int


MAX_QUEUES = (1, 100_000)


LIMITS = {
    "max_in_flight": (0, 1_000_000),
    "max_attempts_per_minute": (0, 100_000_000),
    "throttle_delay_ms": (0, 3_600_000),
    "max_payload_bytes": (2, 16_777_216),
    "max_enqueue_per_minute": (0, 2_147_483_647),
}


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
    """Jobs of a queue that are due now, due later, or dead; each counted up to a
    limit.
    """

    queued: int
    scheduled: int
    dlq: int


# Jobs of one queue and state are counted up to this; a deeper queue is estimated,
# because a screen must not read a whole backlog.
COUNTED = 10_000
# Jobs of all queues that one report counts, twice at most: that bounds its time with
# many queues.
BUDGET = 250_000
# Queues that one report measures, the most important ones.
MOST_QUEUES = 1000
SAMPLED = 20_000  # newest jobs from which arrivals are estimated


@dataclass(frozen=True, slots=True)
class QueueRow:
    """The waiting, running and dead jobs of a queue, and its limits.

    Counts stop at one more than `counted`; what is deeper has an estimate, of all that
    wait, due or not, and of its dead letters. Ages are in seconds. A pause without an
    end has no `paused_until`.
    """

    queue: str
    counted: int
    runnable: int
    scheduled: int
    retrying: int
    running: int
    dlq: int
    oldest_age_seconds: float | None
    oldest_running_age_seconds: float | None
    expired_leases: int
    paused: bool
    max_in_flight: int | None
    max_attempts_per_minute: int | None
    throttle_delay_ms: int | None
    max_payload_bytes: int | None
    max_enqueue_per_minute: int | None
    paused_until: datetime | None
    paused_by: str | None
    pause_note: str | None
    waiting_estimate: int | None = None
    dead_estimate: int | None = None


@dataclass(frozen=True, slots=True)
class RateMeasure:
    """The outcomes of a queue's attempts in the last `covered` seconds.

    `ended` counts all of them, `again` those of them that were not the job's first.
    `seconds` and `buckets` say how long those took that succeeded or failed. `steps`:
    jobs done in the last six whole steps of ten seconds.
    """

    queue: str
    covered: float
    succeeded: int
    retried: int
    dlq: int
    canceled: int
    ended: int
    again: int
    seconds: float
    buckets: list[int] | None
    steps: list[int]

    @property
    def done(self) -> int:
        """Return how many jobs have left the queue for good."""
        return self.succeeded + self.dlq + self.canceled

    @property
    def finished(self) -> int:
        """Return how many attempts have succeeded or failed."""
        return self.succeeded + self.retried + self.dlq


@dataclass(frozen=True, slots=True)
class ArrivalMeasure:
    """How many jobs were enqueued in the last `covered` seconds."""

    queue: str
    covered: float
    arrived: int


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """The server and the database as a whole; unknown values are None."""

    now: datetime
    database: str
    server_version: str
    schema_version: int | None
    connections: int
    max_connections: int
    oldest_xmin_age_seconds: float | None
    maintained_at: datetime | None
    backed_up_at: datetime | None
    backup_bytes: int | None
    fenced: bool


@dataclass(frozen=True, slots=True)
class MaintenanceFacts:
    """When a task of maintain last succeeded, and the rows it has processed in all."""

    task: str
    last_success_at: datetime | None
    rows_total: int


@dataclass(frozen=True, slots=True)
class CounterSum:
    """One series of all time; see worker_counters for what `metric` may be."""

    metric: str
    queue: str
    job_type: str
    outcome: str
    code: str
    count: int
    seconds: float
    buckets: list[int] | None


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """All measurements of one instant.

    `asked_at` is our own clock at that instant, in seconds since 1970.
    """

    cluster: ClusterFacts
    queues: list[QueueRow]
    rates: Mapping[str, RateMeasure]
    arrivals: Mapping[str, ArrivalMeasure]
    arrivals_covered: float
    workers: list[WorkerProcess]
    window: float
    asked_at: float
    known: int = 0  # all matching queues, measured or not


@dataclass(frozen=True, slots=True)
class OtherQueues:
    """The jobs of all queues that were not measured individually; ages are in
    seconds.
    """

    queues: int = 0
    runnable: int = 0
    scheduled: int = 0
    oldest_age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Further measurements for Prometheus: counters, sessions by state, dead rows by
    table, and the tasks of maintain.

    `others`: all queues together that were not measured. `collectors`: whether each
    part of the look failed; what failed is empty.
    """

    counters: list[CounterSum]
    connections: Mapping[str, int]
    dead_tuples: Mapping[str, int]
    maintenance: list[MaintenanceFacts]
    others: OtherQueues = OtherQueues()
    collectors: Mapping[str, bool] = field(default_factory=dict)
