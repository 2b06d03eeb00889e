"""Statements that count what workers have done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pgflow_cli.repository.base import Statements

# Due jobs that a recorded pause counts at most: one more than a screen shows.
_HELD_AT_MOST = 10_001
# Jobs that one count reads, rounded up to a whole slice of ten seconds.
_ARRIVALS_AT_ONCE = 20_000
# Jobs of one slice of ten seconds that are counted: producers may give any number of
# ids one time.
_ARRIVALS_OF_A_SLICE = 500_000
_ARRIVAL_SERIES = 1_000  # pairs of queue and job type; later ones count as `other`


class Counters(Statements):
    """Counters that supervisors add to, and the statements that keep their tables
    small.
    """

    def add_counters(
        self,
        supervisor_id: str,
        number: int,
        *,
        counters: Sequence[Mapping[str, object]],
        rates: Sequence[Mapping[str, object]],
    ) -> None:
        """Add to the counters of a supervisor and to the rates of its queues.

        Additions are numbered from 1; one that was already made is not made again.
        """
        self.link.count(
            "add_counters",
            {
                "supervisor_id": supervisor_id,
                "number": number,
                "counters": json.dumps(list(counters)),
                "rates": json.dumps(list(rates)),
            },
        )

    def count_attempts(
        self, attempts: Sequence[tuple[str, int]], *, expired: Sequence[str] = ()
    ) -> None:
        """Count attempts (job, number) that their worker process did not settle itself.

        In the transaction that writes them. `expired`: a queue for each lease that has
        run out.
        """
        if attempts or expired:
            self.link.count(
                "count_attempts",
                {
                    "job_ids": [job_id for job_id, _ in attempts],
                    "attempt_nos": [number for _, number in attempts],
                    "expired": list(expired),
                },
            )

    def fold_counters(self, *, limit: int) -> None:
        """Fold the counters of supervisors that are gone into one row each."""
        self.link.count("fold_counters", {"limit": limit})

    def count_arrivals(self, *, limit: int = _ARRIVALS_AT_ONCE) -> bool:
        """Count jobs that were enqueued lately; return whether more are to be counted.

        If another session counts at this moment, this one leaves it to that. Each job
        counts once; a job whose id is more than an hour older than its commit is not
        found.
        """
        with self.transaction():
            if not self.link.tuples("lock_arrivals"):
                return False
            self.link.plan_by_index()
            [(_, more)] = self.link.tuples(
                "count_arrivals",
                {
                    "limit": limit,
                    "most_of_a_slice": max(limit, _ARRIVALS_OF_A_SLICE),
                    "most_series": _ARRIVAL_SERIES,
                },
            )
        return bool(more)

    def prune_queue_rates(self, *, limit: int) -> int:
        """Delete rates that are older than two hours; return the number of rows."""
        return self.link.count("prune_queue_rates", {"limit": limit})

    def record_pauses(self) -> None:
        """Record which pauses hold back jobs that are due, once a minute."""
        self.link.count("record_pauses", {"limit": _HELD_AT_MOST})
