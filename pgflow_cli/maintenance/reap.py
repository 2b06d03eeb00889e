"""Ends the leases of workers that cannot end them. If the database refuses to end one
(a trigger raises), the others are ended all the same.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pgflow_cli.errors import PASSING, Contention, LeasesRefused, PgflowError
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.models.jobs import EndedJob
from pgflow_cli.repository import Repository

log = logging.getLogger("pgflow.reaping")

# Ends the leases of these ids; None: all that it finds.
End = Callable[[Sequence[str] | None], list[EndedJob]]

# Seconds for the leases of a batch that are ended one by one: a trigger may be slow,
# and the caller has other tasks.
PATIENCE = 10.0


@dataclass
class Ends:
    """The result for a batch of leases: the jobs of ended leases, the leases whose end
    the database refused, and those without time for a try. The latter two remain.
    """

    jobs: list[EndedJob] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)


def end_leases(repository: Repository, end: End) -> Ends:
    """End leases in one transaction; if that fails, each in its own.

    Raises the error of an outage only if the database ends no lease at all.
    """
    try:
        return Ends(end(None))
    except LeasesRefused as error:
        lease_ids = error.lease_ids
    apart = _Apart(repository, end)
    # Shuffled, because the first ones may be those that fail.
    apart.run(random.sample(lease_ids, len(lease_ids)))
    if apart.ends.refused:
        log.error(
            "%d leases cannot be ended, their jobs stay in them (a trigger or a"
            " constraint?): %s",
            len(apart.ends.refused),
            apart.reason,
            extra={"event": "leases_left", "count": len(apart.ends.refused)},
        )
    return apart.ends


class _Apart:
    """Ends leases one by one.

    A trigger may be slow, or raise an error that looks like an outage, for one lease or
    for all. It is an outage only if no lease can be ended.
    """

    def __init__(self, repository: Repository, end: End) -> None:
        self._repository, self._end = repository, end
        self.ends = Ends()
        self.reason: PgflowError | None = None

    def run(self, lease_ids: Sequence[str]) -> None:
        until = monotonic() + PATIENCE
        for number, lease_id in enumerate(lease_ids, 1):
            self._try(lease_id)
            if monotonic() > until:
                self.ends.untried += lease_ids[number:]
                break

    def _try(self, lease_id: str) -> None:
        try:
            self.ends.jobs += self._end([lease_id])
        except LeasesRefused as error:
            self.reason = error
            self.ends.refused.append(lease_id)
        except (*PASSING, Contention) as error:
            self._repository.unsettled_leases.try_to_end()
            self.reason = error
            self.ends.refused.append(lease_id)


class Reaper:
    """Reaps batch after batch. A lease whose end was refused is skipped for a while;
    one without time for a try is skipped until all others had theirs. They would be the
    first of every batch otherwise, and enough of them would keep all others from being
    reaped.
    """

    PASSED_OVER = 60.0  # seconds

    def __init__(self, crash_budget: int) -> None:
        self._crash_budget = crash_budget
        self._refused: dict[str, float] = {}  # lease id -> when to try again
        self._untried: set[str] = set()

    def reap(self, repository: Repository, *, limit: int) -> list[EndedJob]:
        """Reap up to `limit` expired leases."""
        while True:
            now = monotonic()
            self._refused = {k: at for k, at in self._refused.items() if at > now}
            ends = end_leases(
                repository,
                lambda only: repository.unsettled_leases.reap_expired_locks(
                    limit=limit,
                    crash_budget=self._crash_budget,
                    only=only,
                    passed_over=[*self._refused, *self._untried],
                ),
            )
            until = monotonic() + self.PASSED_OVER
            self._refused.update(dict.fromkeys(ends.refused, until))
            self._untried.update(ends.untried)
            if ends.jobs or ends.untried:
                return ends.jobs
            if not ends.refused:
                self._untried.clear()
                return []
