"""Reports the status of each queue, from measurements of the repository."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter

from pgflow_cli.errors import NotFound
from pgflow_cli.formats import values
from pgflow_cli.inspection import worker_blockers
from pgflow_cli.inspection.forecast import forecast
from pgflow_cli.inspection.queue_status import QueueStatus, due
from pgflow_cli.models.queues import (
    COUNTED,
    MOST_QUEUES,
    ClusterSnapshot,
    QueueRow,
    RateMeasure,
)
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.repository import Repository
from pgflow_cli.telemetry.counters import quantile

WINDOW = 60.0  # seconds that rates cover by default
SORTS = ("queue", "runnable:desc", "oldest:desc", "dlq:desc", "out/s:desc", "err%:desc")
_SORTED_BY = {
    "queue": attrgetter("queue"),
    "runnable": attrgetter("runnable"),
    "oldest": attrgetter("oldest_age_seconds"),
    "dlq": attrgetter("dlq"),
    "out/s": attrgetter("out_per_sec"),
    "err%": attrgetter("error_percent"),
}


@dataclass(frozen=True, slots=True)
class QueueReport:
    """Every queue that was asked for, and the database, at one instant."""

    measures: ClusterSnapshot
    queues: list[QueueStatus]

    @property
    def known(self) -> int:
        """Return how many queues match, those left out included."""
        return max(self.measures.known, len(self.queues))

    @property
    def left_out(self) -> int:
        """Return how many matching queues were not measured."""
        return self.known - len(self.queues)

    @property
    def now(self) -> datetime:
        """Return the database's time."""
        return self.measures.cluster.now

    @property
    def skew(self) -> float:
        """Return by how many seconds the database's clock is ahead of ours."""
        return self.now.timestamp() - self.measures.asked_at


def in_order(queues: Iterable[QueueStatus], sort: str) -> list[QueueStatus]:
    """Return queues in the order of one of SORTS; queues without the value come
    last.
    """
    name, _, direction = sort.partition(":")
    return values.sorted_by(queues, _SORTED_BY[name], descending=direction == "desc")


def take(
    repository: Repository,
    chosen: JobFilter | None = None,
    *,
    window: float = WINDOW,
    counted: int = COUNTED,
) -> QueueReport:
    """Measure the queues that match a filter; without one, all of them.

    If there are more than `MOST_QUEUES`, only the most important: first those whose
    oldest due job has waited longest.
    """
    wanted = None
    if chosen and chosen.queues:
        wanted = chosen.expand(repository.queues.list_queue_names()).queues
    names, known = repository.metrics.choose_queues(wanted, limit=MOST_QUEUES)
    return of(
        repository.metrics.measure(names, window=window, counted=counted, known=known)
    )


def take_page(
    repository: Repository,
    chosen: JobFilter | None = None,
    *,
    after: str | None = None,
    limit: int = MOST_QUEUES,
    window: float = WINDOW,
) -> tuple[QueueReport, str | None]:
    """Measure queues in the order of their names, from `after` on; return the last name
    if there are more.
    """
    known = repository.queues.list_queue_names()
    wanted = set(chosen.expand(known).queues) if chosen else set()
    names = [
        name
        for name in known
        if (not wanted or name in wanted) and (after is None or name > after)
    ]
    page = names[:limit]
    measures = repository.metrics.measure(
        page, window=window, counted=COUNTED, known=len(names)
    )
    return of(measures), page[-1] if len(names) > limit else None


def take_one(repository: Repository, name: str, *, window: float) -> QueueStatus:
    """Measure one queue. Raises `NotFound` if it was never used."""
    if name not in repository.queues.list_queue_names([name]):
        raise NotFound(f'there is no queue "{name}"', "Try: pgflow queues list")
    return of(
        repository.metrics.measure([name], window=window, counted=COUNTED, known=1)
    ).queues[0]


def of(measures: ClusterSnapshot) -> QueueReport:
    """Return the status of each queue."""
    return QueueReport(
        measures, [_status(measures, found) for found in measures.queues]
    )


def _status(measures: ClusterSnapshot, found: QueueRow) -> QueueStatus:
    name = found.queue
    empty = RateMeasure(name, measures.window, 0, 0, 0, 0, 0, 0, 0.0, None, [0] * 6)
    rate = measures.rates.get(name, empty)
    arrival = measures.arrivals.get(name)
    arrived = arrival.arrived if arrival else 0
    serving = [worker for worker in measures.workers if worker.serves(name)]
    in_per_sec = arrived / measures.arrivals_covered
    out_per_sec = rate.done / max(rate.covered, 1.0)
    failed = rate.finished - rate.succeeded
    hindered = worker_blockers.of_queue(measures.workers, name)
    outlook = forecast(
        due(found),
        in_per_sec,
        out_per_sec,
        arrived + rate.done,
        len(serving),
        measures.window,
    )
    if hindered:
        # More workers would not help this queue.
        outlook = replace(outlook, workers_needed=None)
    p95 = quantile(rate.buckets, 0.95) if rate.buckets else None
    return QueueStatus(
        measure=found,
        counted=found.counted,
        in_per_sec=in_per_sec,
        out_per_sec=out_per_sec,
        error_percent=_percent(failed, rate.finished),
        retry_percent=_percent(rate.again, rate.ended),
        success_rate=rate.succeeded / rate.finished if rate.finished else None,
        retry_rate=rate.again / rate.ended if rate.ended else None,
        attempts_per_sec=rate.finished / max(rate.covered, 1.0),
        deaths_per_minute=60 * rate.dlq / max(rate.covered, 1.0),
        mean_ms=_mean_ms(rate),
        p95_ms=None if p95 is None else p95 * 1000,
        forecast=outlook,
        workers=len(serving),
        steps=rate.steps,
        arrivals_covered=measures.arrivals_covered,
        hindered=tuple(hindered),
        idle_workers=tuple(worker_blockers.in_brief(measures.workers, name)),
        quiet_workers=tuple(worker_blockers.quiet_workers(measures.workers, name)),
    )


def _mean_ms(rate: RateMeasure) -> float | None:
    timed = sum(rate.buckets or [])
    return rate.seconds / timed * 1000 if timed else None


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
