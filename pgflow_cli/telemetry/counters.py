"""Counters of a worker process, in memory until its supervisor collects them.

A batch is counted at once under one lock, so a job costs a few dictionary look-ups.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from pgflow_cli.models.jobs import LeasedJob

# Upper bounds of histogram buckets, in seconds. The database adds counts up bucket by
# bucket, so other bounds would mix old counts with new ones.
DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
WAITS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)
OUTCOMES = (
    "succeeded", "retried", "dlq", "snoozed", "released", "lost", "canceled",
)  # fmt: skip
# Outcomes whose duration tells how long the handler takes.
TIMED = ("succeeded", "failed")
# Values of a label; later ones count as `other`, so that no metric grows without bound.
MOST_VALUES = 200
OTHER = "other"

Attempt = tuple[str, str, str, str, bool]  # queue, type, outcome, error code, again
Timed = tuple[str, str]  # queue, job type
Key = TypeVar("Key", Timed, str)


@dataclass(slots=True)
class Histogram:
    """A histogram: the count of each bucket, the last one without a bound, and the
    sum.
    """

    buckets: list[int]
    seconds: float = 0.0

    @classmethod
    def of(cls, bounds: tuple[float, ...]) -> Histogram:
        """Return an empty one."""
        return cls([0] * (len(bounds) + 1))

    def count(self, bounds: tuple[float, ...], seconds: float) -> None:
        """Count a duration; a negative one is an error of a clock and counts as 0."""
        self.buckets[bisect_left(bounds, seconds)] += 1
        if seconds > 0.0:
            self.seconds += seconds

    def add(self, other: Histogram) -> None:
        """Count what another one has counted."""
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds


def _durations() -> Histogram:
    return Histogram.of(DURATIONS)


def _waits() -> Histogram:
    return Histogram.of(WAITS)


@dataclass(slots=True)
class Tally:
    """Attempts by label, how long they took, and how long their jobs had waited; and
    lines of the log that were dropped.
    """

    attempts: Counter[Attempt] = field(default_factory=Counter)
    durations: defaultdict[Timed, Histogram] = field(
        default_factory=lambda: defaultdict(_durations)
    )
    waits: defaultdict[str, Histogram] = field(
        default_factory=lambda: defaultdict(_waits)
    )
    dropped_lines: int = 0

    def __bool__(self) -> bool:
        """Whether anything was counted."""
        return bool(self.attempts or self.waits or self.dropped_lines)

    def count(self, attempts: Sequence[tuple[Attempt, float | None]]) -> None:
        """Count attempts and the seconds they took; None where that means nothing."""
        self.attempts.update([attempt for attempt, _ in attempts])
        timed = ((a[:2], s) for a, s in attempts if s is not None)
        _count(self.durations, DURATIONS, timed)

    def count_waits(self, waits: Iterable[tuple[str, float]]) -> None:
        """Count jobs of these queues, leased so many seconds after they were due."""
        _count(self.waits, WAITS, waits)

    def add(self, other: Tally) -> None:
        """Count what another one has counted."""
        self.attempts.update(other.attempts)
        for timed, histogram in other.durations.items():
            self.durations[timed].add(histogram)
        for queue, histogram in other.waits.items():
            self.waits[queue].add(histogram)
        self.dropped_lines += other.dropped_lines


def _count(
    histograms: Mapping[Key, Histogram],
    bounds: tuple[float, ...],
    measured: Iterable[tuple[Key, float]],
) -> None:
    last: Key | None = None
    histogram = Histogram([])
    for key, seconds in measured:
        if key != last:  # most of a batch are alike
            last, histogram = key, histograms[key]
        histogram.count(bounds, seconds)


class Counters:
    """The tally of one process: its connections count, its main thread takes."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._lock = threading.Lock()

    def count_attempts(self, attempts: Sequence[tuple[Attempt, float | None]]) -> None:
        """Count attempts whose outcome the database has accepted."""
        with self._lock:
            self._tally.count(attempts)

    def count_waits(self, jobs: Iterable[LeasedJob], leased_at: datetime) -> None:
        """Count jobs that were leased at that time of the database's clock, in UTC."""
        with self._lock:
            self._tally.count_waits(
                (job.queue, (leased_at - moment(job.run_at)).total_seconds())
                for job in jobs
            )

    def count_dropped_lines(self, lines: int) -> None:
        """Count lines of the log that were dropped."""
        with self._lock:
            self._tally.dropped_lines += lines

    def take(self) -> Tally:
        """Return the counts since the last call."""
        with self._lock:
            taken, self._tally = self._tally, Tally()
        return taken


class Labels:
    """Limits each label to `most` values; later ones become `other`."""

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        self._known: defaultdict[str, set[str]] = defaultdict(set)

    def value(self, label: str, value: str) -> str:
        """Return the value, or `other` if there are too many already."""
        known = self._known[label]
        if value in known or len(known) < self._most:
            known.add(value)
            return value
        return OTHER


# Of `YYYY-MM-DD HH:MM:SS.ffffff` in UTC; without a zone, for it is read for each job.
moment = datetime.fromisoformat


def attempt_of(
    leased: LeasedJob, status: str, error_code: str | None, *, dead: bool
) -> Attempt:
    """Return the outcome that an attempt counts as; `dead`: it was the job's last."""
    outcome = status
    if status == "failed":
        outcome = "dlq" if dead else "retried"
    again = leased.attempt_no > 1
    return leased.queue, leased.job_type, outcome, error_code or "", again


def limited(tally: Tally, labels: Labels) -> Tally:
    """Return a tally whose labels are limited."""
    kept = Tally(dropped_lines=tally.dropped_lines)
    for (queue, job_type, outcome, code, _), count in tally.attempts.items():
        named = (*_named(labels, queue, job_type), outcome)
        kept.attempts[(*named, labels.value("code", code), False)] += count
    for timed, histogram in tally.durations.items():
        kept.durations[_named(labels, *timed)].add(histogram)
    for queue, histogram in tally.waits.items():
        kept.waits[labels.value("queue", queue)].add(histogram)
    return kept


def _named(labels: Labels, queue: str, job_type: str) -> Timed:
    return labels.value("queue", queue), labels.value("job_type", job_type)


def counter_rows(tally: Tally) -> list[dict[str, object]]:
    """Return the rows that `add_counters` adds to the counters of all time."""
    rows = [
        _row("attempts", queue, job_type, outcome, code, count=count)
        for (queue, job_type, outcome, code, _), count in tally.attempts.items()
    ]
    rows += [
        _row("duration", queue, job_type, histogram=histogram)
        for (queue, job_type), histogram in tally.durations.items()
    ]
    rows += [
        _row("wait", queue, histogram=histogram)
        for queue, histogram in tally.waits.items()
    ]
    if tally.dropped_lines:
        rows.append(_row("log_lines_dropped", "", count=tally.dropped_lines))
    return rows


def _row(
    metric: str,
    queue: str,
    job_type: str = "",
    outcome: str = "",
    code: str = "",
    *,
    count: int = 0,
    histogram: Histogram | None = None,
) -> dict[str, object]:
    return {
        "metric": metric,
        "queue": queue,
        "job_type": job_type,
        "outcome": outcome,
        "code": code,
        "count": sum(histogram.buckets) if histogram else count,
        "seconds": histogram.seconds if histogram else 0.0,
        "buckets": histogram.buckets if histogram else None,
    }


def rate_rows(tally: Tally) -> list[dict[str, object]]:
    """Return the rows that `add_counters` adds to the last ten seconds of each
    queue.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (queue, _, outcome, _, again), count in tally.attempts.items():
        counts[queue][outcome] += count
        counts[queue]["again"] += count if again else 0
    took: defaultdict[str, Histogram] = defaultdict(_durations)
    for (queue, _), histogram in tally.durations.items():
        took[queue].add(histogram)
    return [
        {
            "queue": queue,
            **{name: counted[name] for name in (*OUTCOMES, "again")},
            "seconds": took[queue].seconds,
            "buckets": took[queue].buckets,
        }
        for queue, counted in counts.items()
    ]


def quantile(buckets: list[int], share: float) -> float | None:
    """Return a quantile of the durations in seconds, estimated as Prometheus does.

    It assumes an even distribution inside each bucket. None without attempts; in the
    last bucket it is the last bound.
    """
    total = sum(buckets)
    if not total:
        return None
    wanted, seen, lower = share * total, 0, 0.0
    for count, bound in zip(buckets, (*DURATIONS, None), strict=True):
        if bound is None:
            break
        if seen + count >= wanted and count:
            return lower + (bound - lower) * (wanted - seen) / count
        seen, lower = seen + count, float(bound)
    return float(DURATIONS[-1])
