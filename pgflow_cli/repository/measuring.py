"""Statements that measure queues and the database; each bounded, all of one instant."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

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
        self, *, window: float, counted: int, budget: int
    ) -> tuple[Measures, Totals]:
        """Measure every queue, and what Prometheus wants besides.

        All queues together have a budget of jobs to count; what most of them leave of
        it goes to the deep ones, each up to `counted`.
        """
        with self._one_instant() as asked_at:
            names = [name for (name,) in self.link.tuples("list_queue_names")]
            share = _share(budget, len(names), counted)
            measures = self._measure(names, window, share, asked_at)
            measures = self._look_deeper(measures, share, counted, budget)
            deep = [q.queue for q in measures.queues if q.runnable > q.counted]
            totals = Totals(
                self.link.rows("read_counters", CounterSum, {"limit": _MOST_SERIES}),
                dict(self.link.tuples("count_connections")),
                dict(self.link.tuples("measure_dead_tuples")),
                self.estimate_queues(deep),
                self.link.rows("list_maintenance", MaintenanceFacts),
            )
        return measures, totals

    def estimate_queues(self, queues: Sequence[str]) -> dict[str, int]:
        """Return about how many jobs wait in each of these queues, due or not."""
        rows = self.link.tuples("estimate_queues", {"queues": list(queues)})
        return {queue: int(jobs) for queue, jobs in rows}

    @contextmanager
    def _one_instant(self) -> Iterator[float]:
        """Begin a snapshot; hand out our own time at that moment."""
        with self.transaction():
            asked_at = time.time()
            self.link.execute("begin_snapshot", None, None)
            self.link.tuples("limit_statements", {"milliseconds": _PATIENCE_MS})
            self.link.tuples("plan_by_index")
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
            asked_at,
        )

    def _look_deeper(
        self, measures: Measures, share: int, counted: int, budget: int
    ) -> Measures:
        """Count once more what was too deep for a share of the budget."""
        deep = [q.queue for q in measures.queues if _deepest(q) > share]
        limit = _share(budget, len(deep), counted)
        if not deep or limit <= share:
            return measures
        again = {
            found.queue: found
            for found in self.link.rows(
                "measure_queues", QueueMeasure, {"queues": deep, "limit": limit + 1}
            )
        }
        return replace(
            measures, queues=[again.get(q.queue, q) for q in measures.queues]
        )


def _share(budget: int, queues: int, counted: int) -> int:
    return max(1, min(counted, budget // max(1, queues)))


def _deepest(found: QueueMeasure) -> int:
    return max(found.runnable, found.scheduled, found.dlq)
