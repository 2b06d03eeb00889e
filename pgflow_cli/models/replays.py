"""Replays: options, previews, plans, created jobs, and limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

# The most jobs of one replay. Their ids are in memory while the plan is made (0.1 KB
# each), and undoing more takes longer than a night; a second replay takes the others.
MOST = 1_000_000
USUAL_MOST = 10_000  # unless the operator allows more
MOST_CANARIES = 10_000  # jobs of a canary: more are no sample any more
RATES = (0.01, 1_000_000.0)  # jobs that become due in a second


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The options of a replay; a field that is None takes the value of the source.

    `patch` is JSON text, `delay` and the others are seconds; `seconds_apart` of 0 lets
    all of them run at once.
    """

    to_queue: str | None = None
    run_at: datetime | None = None
    delay: float | None = None
    max_attempts: int | None = None
    priority: int | None = None
    patch: str | None = None
    seconds_apart: float = 0.0
    canary: int = 0
    canary_seconds: float = 120.0
    again: bool = False
    any_status: bool = False
    batch_size: int = 500
    max_payload_bytes: int = 262_144


@dataclass(frozen=True, slots=True)
class ReplayGroup:
    """Jobs of one queue and type that a replay would create, and their queue's limits.

    The ages are those of the deaths, in seconds.
    """

    queue: str
    job_type: str
    jobs: int
    oldest_seconds: float
    newest_seconds: float
    least_priority: int
    most_priority: int
    least_attempts: int
    most_attempts: int
    too_large: int
    max_in_flight: int | None
    max_attempts_per_minute: int | None
    paused: bool

    def joined(self, other: ReplayGroup) -> ReplayGroup:
        """Return this and another part of the same queue and type as one."""
        return replace(
            self,
            jobs=self.jobs + other.jobs,
            oldest_seconds=max(self.oldest_seconds, other.oldest_seconds),
            newest_seconds=min(self.newest_seconds, other.newest_seconds),
            least_priority=min(self.least_priority, other.least_priority),
            most_priority=max(self.most_priority, other.most_priority),
            least_attempts=min(self.least_attempts, other.least_attempts),
            most_attempts=max(self.most_attempts, other.most_attempts),
            too_large=self.too_large + other.too_large,
        )


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The row of a plan; `runner_id` changes when another process takes the plan over.

    `remaining` are still to be created, `refused` could not be.
    """

    plan_id: int
    state: str
    created_at: datetime
    ended_at: datetime | None
    runner: str
    silent_seconds: float
    selected: int
    created: int
    remaining: int
    skipped: int
    refused: int
    undone: int
    rate: float | None
    eta_seconds: float | None
    canary: int
    canary_state: str | None
    canary_seconds: float
    batch_size: int
    to_queue: str | None
    action_id: int
    runner_id: str

    @property
    def position(self) -> tuple[datetime, str]:
        """Return its position in a list, for the next page."""
        return self.created_at, str(self.plan_id)


@dataclass(frozen=True, slots=True)
class ReplayProgress(ReplayPlan):
    """A plan and how its jobs have ended so far."""

    waiting: int
    running: int
    succeeded: int
    failed: int
    canceled: int

    @property
    def is_over(self) -> bool:
        """Return whether the plan changes only if an operator acts."""
        creates = self.state == "running" and self.remaining > 0
        return not (creates or self.waiting or self.running)


@dataclass(frozen=True, slots=True)
class ListedPlan(ReplayPlan):
    """A plan in a list that counts how its jobs have ended; None: too many to count."""

    waiting: int | None
    running: int | None
    succeeded: int | None
    failed: int | None
    canceled: int | None


@dataclass(frozen=True, slots=True)
class ReplayedItem:
    """The result for one source: created, skipped or failed, and why."""

    source_job_id: str
    new_job_id: str | None
    state: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class CanaryJob:
    """One job of a canary; `came_back`: it failed as its source had."""

    job_id: str
    status: str | None
    came_back: bool


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """A job that a plan has created, and where it is."""

    place: int
    job_id: str
    replay_of_job_id: str
    status: str | None
    attempt_no: int | None
    last_error_code: str | None
