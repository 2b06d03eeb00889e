"""Statements that measure queues and the database: each is bounded in time, and all
read one snapshot.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from pgflow_cli.errors import PermissionDenied, StatementFailed, TooSlow
from pgflow_cli.models.queues import (
    BUDGET,
    MOST_QUEUES,
    SAMPLED,
    ArrivalMeasure,
    ClusterFacts,
    ClusterSnapshot,
    CounterSum,
    MaintenanceFacts,
    OtherQueues,
    QueueRow,
    RateMeasure,
    Totals,
)
from pgflow_cli.models.workers import WorkerProcess
from pgflow_cli.repository.base import Statements
from pgflow_cli.repository.workers import Workers

log = logging.getLogger("pgflow.metrics")

Found = TypeVar("Found")

# Series of counters that one scrape reads: that bounds its memory.
_MOST_SERIES = 50_000
_FEW = 100  # jobs counted in each queue when all queues are counted
# Milliseconds for each statement: a screen must not load a busy database.
_PATIENCE_MS = 2_000


class Metrics(Statements):
    """The figures that `queues`, `top` and `metrics` show."""

    def choose_queues(
        self, names: Sequence[str] | None, *, limit: int
    ) -> tuple[list[str], int]:
        """Return the queues that matter most, and how many there are; of some names, or
        of all.
        """
        rows = self.link.tuples(
            "choose_queues",
            {"names": None if names is None else list(names), "limit": limit},
        )
        return sorted(row[0] for row in rows), rows[0][1] if rows else 0

    def measure(
        self,
        queues: Sequence[str],
        *,
        window: float,
        counted: int,
        known: int,
        budget: int = BUDGET,
    ) -> ClusterSnapshot:
        """Measure queues, of so many known; rates are of the last `window` seconds.

        Jobs are counted as in `measure_all`: what is deeper is estimated.
        """
        with self._one_instant() as asked_at:
            self.link.limit_statements(_PATIENCE_MS)
            [cluster] = self.link.rows("describe_cluster", ClusterFacts)
            arrivals = self.measure_arrivals(window)
            share = _share(budget, len(queues), counted)
            found = self._look_deeper(
                self._queues(queues, share), share, counted, budget
            )
            return ClusterSnapshot(
                cluster,
                self._estimated(found),
                self.measure_queue_rates(queues, window),
                {arrival.queue: arrival for arrival in arrivals},
                arrivals[0].covered,
                Workers(self.link).list_workers(),
                window,
                asked_at,
                known,
            )

    def measure_all(
        self,
        *,
        window: float,
        counted: int,
        budget: int,
        limit: int = MOST_QUEUES,
    ) -> tuple[ClusterSnapshot, Totals]:
        """Measure the `limit` queues that matter most, the others together, and what
        Prometheus wants besides.

        The measured queues share a budget of jobs to count. Most queues need little of
        it; the rest is spent on the deep ones, each up to `counted`. A part that is too
        slow, or that the role may not read, is empty and named; the other parts are
        complete.
        """
        with self._one_instant() as asked_at:
            look = _Look(self)
            self.link.limit_statements(_PATIENCE_MS)
            [cluster] = self.link.rows("describe_cluster", ClusterFacts)
            nothing: tuple[list[str], int] = [], 0
            names, known = look.at(
                "queue_names", lambda: self.choose_queues(None, limit=limit), nothing
            )
            share = _share(budget, len(names), counted)
            queues: list[QueueRow] = look.at(
                "queues", lambda: self._queues(names, share), []
            )
            queues = look.at(
                "deep_queues",
                lambda: self._look_deeper(queues, share, counted, budget),
                queues,
            )
            queues = look.at("estimates", lambda: self._estimated(queues), queues)
            rates: dict[str, RateMeasure] = look.at(
                "rates", lambda: self.measure_queue_rates(names, window), {}
            )
            arrivals: list[ArrivalMeasure] = look.at(
                "arrivals", lambda: self.measure_arrivals(window), []
            )
            workers: list[WorkerProcess] = look.at(
                "workers", Workers(self.link).list_workers, []
            )
            others = OtherQueues()
            if known > len(names):
                others = look.at("other_queues", lambda: self._others(names), others)
            link = self.link
            totals = Totals(
                look.at("counters", self._counters, []),
                look.at(
                    "connections", lambda: dict(link.tuples("count_connections")), {}
                ),
                look.at("tables", lambda: dict(link.tuples("measure_dead_tuples")), {}),
                look.at("maintenance", self._maintenance, []),
                others,
                look.failed,
            )
            covered = arrivals[0].covered if arrivals else window
            by_queue = {arrival.queue: arrival for arrival in arrivals}
            measures = ClusterSnapshot(
                cluster, queues, rates, by_queue, covered, workers, window, asked_at,
                known,
            )  # fmt: skip
        return measures, totals

    def estimate_queues(self, queues: Sequence[str]) -> dict[str, int]:
        """Return about how many jobs wait in each of these queues, due or not."""
        rows = self.link.tuples("estimate_queues", {"queues": list(queues)})
        return {queue: int(jobs) for queue, jobs in rows}

    def estimate_dead_letters(self, queues: Sequence[str]) -> dict[str, int]:
        """Return about how many unresolved dead letters each of these queues has."""
        rows = self.link.tuples("estimate_dead_letters", {"queues": list(queues)})
        return {queue: int(jobs) for queue, jobs in rows}

    @contextmanager
    def _one_instant(self) -> Iterator[float]:
        """Begin a snapshot; yield our own clock at that moment."""
        with self.transaction():
            asked_at = time.time()
            self.link.begin_snapshot()
            self.link.plan_by_index()
            yield asked_at

    def _queues(self, names: Sequence[str], counted: int) -> list[QueueRow]:
        wanted = {"queues": list(names), "limit": counted + 1}
        return self.link.rows("measure_queues", QueueRow, wanted)

    def measure_queue_rates(
        self, names: Sequence[str], window: float
    ) -> dict[str, RateMeasure]:
        """Return how fast jobs of queues have ended in the last `window` seconds."""
        wanted = {"queues": list(names), "window": window}
        rates = self.link.rows("measure_queue_rates", RateMeasure, wanted)
        return {rate.queue: rate for rate in rates}

    def measure_arrivals(self, window: float) -> list[ArrivalMeasure]:
        """Return how fast jobs have come in the last `window` seconds, by queue."""
        wanted = {"window": window, "limit": SAMPLED}
        return self.link.rows("measure_arrivals", ArrivalMeasure, wanted)

    def _counters(self) -> list[CounterSum]:
        return self.link.rows("read_counters", CounterSum, {"limit": _MOST_SERIES})

    def _maintenance(self) -> list[MaintenanceFacts]:
        return self.link.rows("list_maintenance", MaintenanceFacts)

    def _others(self, names: Sequence[str]) -> OtherQueues:
        wanted = {"queues": list(names), "limit": _FEW}
        return self.link.rows("measure_other_queues", OtherQueues, wanted)[0]

    def _look_deeper(
        self, queues: list[QueueRow], share: int, counted: int, budget: int
    ) -> list[QueueRow]:
        """Count the queues again that were too deep for their share of the budget."""
        deep = [q.queue for q in queues if _deepest(q) > share]
        limit = _share(budget, len(deep), counted)
        if not deep or limit <= share:
            return queues
        again = {found.queue: found for found in self._queues(deep, limit)}
        return [again.get(q.queue, q) for q in queues]

    def _estimated(self, queues: list[QueueRow]) -> list[QueueRow]:
        """Add the planner's estimates for the queues that were too deep to count."""
        deep = [q.queue for q in queues if max(q.runnable, q.scheduled) > q.counted]
        dead = [q.queue for q in queues if q.dlq > q.counted]
        waiting = self.estimate_queues(deep) if deep else {}
        unresolved = self.estimate_dead_letters(dead) if dead else {}
        return [
            replace(
                found,
                waiting_estimate=waiting.get(found.queue),
                dead_estimate=unresolved.get(found.queue),
            )
            for found in queues
        ]


class _Look:
    """Measures one part after another, each within a time limit; one that fails does
    not end the others.
    """

    def __init__(self, measuring: Metrics) -> None:
        self.failed: dict[str, bool] = {}
        self._measuring = measuring
        self._until = time.monotonic() + _PATIENCE_MS * 4 / 1000

    def at(self, part: str, look: Callable[[], Found], otherwise: Found) -> Found:
        """Return the result of a measurement, or `otherwise` if it fails or is late."""
        self.failed[part] = True
        left = min(_PATIENCE_MS, round((self._until - time.monotonic()) * 1000))
        if left <= 0:
            return otherwise
        try:
            with self._measuring.transaction():
                self._measuring.link.limit_statements(left)
                found = look()
        except (TooSlow, PermissionDenied, StatementFailed) as error:
            log.warning(
                "the metrics lack %s: %s",
                part,
                error,
                extra={"event": "scrape_partial", "part": part},
            )
            return otherwise
        self.failed[part] = False
        return found


def _share(budget: int, queues: int, counted: int) -> int:
    return max(1, min(counted, budget // max(1, queues)))


def _deepest(found: QueueRow) -> int:
    return max(found.runnable, found.scheduled, found.dlq)
