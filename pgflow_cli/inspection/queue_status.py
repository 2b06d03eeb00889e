"""The status of a queue: numbers for programs, text for screens; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pgflow_cli.formats import times
from pgflow_cli.inspection.forecast import UNSERVED, Drain, sentence, word
from pgflow_cli.models.queues import QueueRow

BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The status of a queue. Percentages are of attempts, rates are of jobs.

    A figure is None if there are too few attempts for it. Counts stop at `counted`.
    `hindered` says why live workers of the queue lease nothing, `idle_workers` names
    them briefly; `quiet_workers` names those that would lease if resumed.
    """

    measure: QueueRow
    counted: int
    in_per_sec: float
    out_per_sec: float
    error_percent: float | None
    retry_percent: float | None
    success_rate: float | None
    retry_rate: float | None
    attempts_per_sec: float
    deaths_per_minute: float
    mean_ms: float | None
    p95_ms: float | None
    forecast: Drain
    workers: int
    steps: list[int]
    arrivals_covered: float
    hindered: tuple[str, ...] = ()
    idle_workers: tuple[str, ...] = ()
    quiet_workers: tuple[str, ...] = ()

    @property
    def queue(self) -> str:
        """Return its name."""
        return self.measure.queue

    @property
    def oldest_age_seconds(self) -> float | None:
        """Return for how long its oldest due job has waited."""
        return self.measure.oldest_age_seconds

    @property
    def unserved(self) -> bool:
        """Whether jobs are due and no live worker leases them."""
        return self.measure.runnable > 0 and self.workers == 0

    @property
    def oldest_running_age_seconds(self) -> float | None:
        """Return for how long the oldest running job has been leased."""
        return self.measure.oldest_running_age_seconds

    @property
    def expired_leases(self) -> int:
        """Return how many leases have run out and hold jobs still."""
        return self.measure.expired_leases

    # Numbers, for programs.

    @property
    def runnable(self) -> int:
        """Return how many are due; where the count was cut, about how many."""
        return due(self.measure)

    @property
    def scheduled(self) -> int:
        """Return how many are due later, estimated in the same way."""
        found = self.measure
        waiting = found.waiting_estimate or 0
        return _counted(found.scheduled, found.counted, waiting - self.runnable)

    @property
    def running(self) -> int:
        """Return how many are leased and not settled."""
        return self.measure.running

    @property
    def dlq(self) -> int:
        """Return how many dead letters are unresolved, estimated in the same way."""
        found = self.measure
        return _counted(found.dlq, found.counted, found.dead_estimate or 0)

    @property
    def counts_are_exact(self) -> bool:
        """Whether no count ended at its limit."""
        found = self.measure
        return max(found.runnable, found.scheduled, found.dlq) <= self.counted

    @property
    def drain(self) -> dict[str, object]:
        """Return the forecast with the keys of the HTTP API."""
        return {
            "verdict": UNSERVED if self.unserved else self.forecast.verdict,
            "seconds": None if self.unserved else self.forecast.seconds,
            "per_minute": self.forecast.per_minute,
            "workers_needed": self.forecast.workers_needed,
            "window_seconds": self.forecast.window,
            "samples": self.forecast.samples,
        }

    @property
    def policy(self) -> dict[str, int | None]:
        """Return the limits of the queue; None: no limit."""
        found = self.measure
        return {
            "max_in_flight": found.max_in_flight,
            "max_attempts_per_minute": found.max_attempts_per_minute,
            "throttle_delay_ms": found.throttle_delay_ms,
            "max_payload_bytes": found.max_payload_bytes,
            "max_enqueue_per_minute": found.max_enqueue_per_minute,
        }

    @property
    def paused(self) -> dict[str, object] | None:
        """Return who paused it, why and until when; None if it is not paused."""
        found = self.measure
        if not found.paused:
            return None
        by, note, until = found.paused_by, found.pause_note, found.paused_until
        return {"by": by, "note": note, "until": until}

    # Text, for screens.

    @property
    def runnable_words(self) -> str:
        """Return how many are due, as text."""
        return self.total_words([self], "runnable")

    @property
    def scheduled_words(self) -> str:
        """Return how many are due later, as text."""
        return self.total_words([self], "scheduled")

    @property
    def dlq_words(self) -> str:
        """Return how many dead letters are unresolved, as text."""
        return self.total_words([self], "dlq")

    @staticmethod
    def total_words(queues: Sequence[QueueStatus], name: str) -> str:
        """Return the total of one figure over all queues: runnable, scheduled or dlq.

        `~12,000` if some of them were estimated, `10,000+` if that could not be done.
        """
        cut = [q for q in queues if getattr(q.measure, name) > q.counted]
        total = f"{sum(getattr(q, name) for q in queues):,}"
        if any(getattr(q, name) == q.counted for q in cut):
            return f"{total}+"
        return f"~{total}" if cut else total

    @property
    def running_words(self) -> str:
        """Return how many run, and the queue's limit of jobs in flight."""
        most = self.measure.max_in_flight
        running = f"{self.measure.running:,}"
        return running if most is None else f"{running}/{most:,}"

    @property
    def in_words(self) -> str:
        """Return how many jobs come in a second."""
        return _rate(self.in_per_sec)

    @property
    def out_words(self) -> str:
        """Return how many jobs are done in a second."""
        return _rate(self.out_per_sec)

    @property
    def error_words(self) -> str:
        """Return the share of attempts that failed."""
        return _share(self.error_percent)

    @property
    def retry_words(self) -> str:
        """Return the share of attempts that were not their job's first."""
        return _share(self.retry_percent)

    @property
    def p95_words(self) -> str:
        """Return the 95th percentile of the attempts' durations."""
        return "-" if self.p95_ms is None else times.format_duration(self.p95_ms / 1000)

    @property
    def drain_words(self) -> str:
        """Return when the queue is empty, or `never`."""
        return "never" if self.unserved else word(self.forecast)

    @property
    def drain_seconds(self) -> float:
        """Return in how many seconds it is empty; infinite if never."""
        seconds = self.forecast.seconds
        return math.inf if self.unserved or seconds is None else seconds

    @property
    def drain_sentence(self) -> str:
        """Return when the queue is empty, and the figures behind it."""
        if self.unserved:
            why = "; ".join(self.hindered) or "no live worker serves it"
            return f"will not drain: {why}"
        return "; ".join((sentence(self.forecast), *self.hindered))

    @property
    def attempts_words(self) -> str:
        """Return how many attempts end in a second."""
        return _rate(self.attempts_per_sec)

    @property
    def success_words(self) -> str:
        """Return the share of attempts that succeeded."""
        return _share(None if self.success_rate is None else 100 * self.success_rate)

    @property
    def sparkline(self) -> str:
        """Return a bar for each ten seconds of the last minute: the jobs done in it."""
        most = max(self.steps)
        return "".join(BARS[step * 7 // most if most else 0] for step in self.steps)

    @property
    def policy_words(self) -> str:
        """Return the limits of the queue as text."""
        found = self.measure
        parts = []
        if found.max_in_flight is not None:
            parts.append(f"max {found.max_in_flight:,}")
        if found.max_attempts_per_minute is not None:
            parts.append(f"{found.max_attempts_per_minute:,}/min")
        if found.max_enqueue_per_minute:
            parts.append(f"in {found.max_enqueue_per_minute:,}/min")
        if found.max_payload_bytes is not None:
            parts.append(f"{found.max_payload_bytes:,} B")
        return ", ".join(parts)

    @property
    def paused_words(self) -> str:
        """Return whether it is paused, and until when."""
        if not self.measure.paused:
            return ""
        until = self.measure.paused_until
        return f"until {until:%H:%M:%S} UTC" if until else "yes"

    @property
    def pause_sentence(self) -> str:
        """Return who paused it, until when, and why."""
        found = self.measure
        if not found.paused:
            return "no"
        until = found.paused_until
        when = f"{until:%Y-%m-%d %H:%M:%S} UTC" if until else "it is resumed"
        by = f" by {found.paused_by}" if found.paused_by else ""
        note = f": {found.pause_note}" if found.pause_note else ""
        return f"until {when}{by}{note}"

    @property
    def hindrance(self) -> str:
        """Return the most important hindrance: paused, no worker, or a limit."""
        if self.measure.paused:
            return "PAUSED"
        return "NO WORKER" if self.unserved else self.policy_words


def due(found: QueueRow) -> int:
    """Return how many jobs of a queue are due; every report uses this figure.

    If the count was cut, this is an estimate: the planner estimates how many wait, due
    or not. If the count of those not yet due was cut, too, the excess counts as due.
    """
    later = min(found.scheduled, found.counted)
    return _counted(
        found.runnable, found.counted, (found.waiting_estimate or 0) - later
    )


def _counted(number: int, most: int, estimate: int) -> int:
    """Return a count, or its estimate if it was cut; never less than the limit of the
    count.
    """
    return number if number <= most else max(most, estimate)


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 1000 else f"{per_second:.1f}"


def _share(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.1f}"
