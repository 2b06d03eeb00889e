"""Statements that measure queues and the database; each bounded, all of one instant."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pgflow_cli.measures import (
    SAMPLED,
    ArrivalMeasure,
    ClusterFacts,
    CounterSum,
    MaintenanceFacts,
    Measures,
    QueueMeasure,
    RateMeasure,
    Totals,
)
from pgflow_cli.repository.inspection import Inspection

_MOST_SERIES = 50_000
_PATIENCE_MS = 2_000  # for each statement: a screen must not load a busy database


class Measuring(Inspection):
    """What `queues`, `top` and `metrics` show."""

    def measure(
        self, queues: Sequence[str], *, window: float, counted: int
    ) -> Measures:
        """Measure queues; rates are of the last `window` seconds.

        No count goes further than one above `counted`.
        """
        with self._one_instant() as asked_at:
            return self._measure(queues, window, counted, asked_at)

    def measure_all(
        self, queues: Sequence[str], *, window: float, counted: int
    ) -> tuple[Measures, Totals]:
        """Measure queues as `measure` does, and what Prometheus wants besides."""
        with self._one_instant() as asked_at:
            measures = self._measure(queues, window, counted, asked_at)
            deep = [q.queue for q in measures.queues if q.runnable > counted]
            totals = Totals(
                self.link.rows("read_counters", CounterSum, {"limit": _MOST_SERIES}),
                dict(self.link.tuples("count_connections")),
                dict(self.link.tuples("measure_dead_tuples")),
                {queue: self._estimate(queue) for queue in deep},
                self.link.rows("list_maintenance", MaintenanceFacts),
            )
        return measures, totals

    @contextmanager
    def _one_instant(self) -> Iterator[float]:
        """Begin a snapshot; hand out our own time at that moment."""
        with self.transaction():
            asked_at = time.time()
            self.link.execute("begin_snapshot", None, None)
            self.link.tuples("limit_statements", {"milliseconds": _PATIENCE_MS})
            yield asked_at

    def _measure(
        self, queues: Sequence[str], window: float, counted: int, asked_at: float
    ) -> Measures:
        names = {"queues": list(queues), "window": window}
        [cluster] = self.link.rows("describe_cluster", ClusterFacts)
        rates = self.link.rows("measure_queue_rates", RateMeasure, names)
        arrivals = self.link.rows(
            "measure_arrivals", ArrivalMeasure, {"window": window, "limit": SAMPLED}
        )
        return Measures(
            cluster,
            self.link.rows(
                "measure_queues", QueueMeasure, {**names, "limit": counted + 1}
            ),
            {rate.queue: rate for rate in rates},
            {arrival.queue: arrival for arrival in arrivals},
            arrivals[0].covered,
            self.list_workers(),
            window,
            counted,
            asked_at,
        )

    def _estimate(self, queue: str) -> int:
        rows = self.link.tuples("estimate_queue", {"queue": queue})
        return int(rows[0][0])
