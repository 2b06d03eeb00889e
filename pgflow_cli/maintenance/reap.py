"""Ends of leases for workers that cannot end them: one lease whose end the database
refuses (a trigger says no) keeps no other from being ended.
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

# Ends these leases; without a list, all it finds.
End = Callable[[Sequence[str] | None], list[EndedJob]]

# Seconds for the leases of one batch by themselves: a trigger may be slow, and who ends
# leases has other duties.
PATIENCE = 10.0


@dataclass
class Ends:
    """What became of leases: the jobs of those that have ended, those whose end the
    database refuses, and those that there was no time for. The latter two stay.
    """

    jobs: list[EndedJob] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)


def end_leases(repository: Repository, end: End) -> Ends:
    """End leases in one transaction; if that fails, each in its own.

    Raises what an outage raises: then the database ends no lease at all.
    """
    try:
        return Ends(end(None))
    except LeasesRefused as error:
        lease_ids = error.lease_ids
    apart = _Apart(repository, end)
    # In any order: those at the front may be the ones that fail.
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

    A trigger may be slow, or raise what an outage raises, for one lease or for all of
    them. It is an outage only if nothing at all can be ended.
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
    """Reaps batch after batch. A lease whose end was refused is passed over for a
    while, and one that there was no time for until all others had their turn: they
    would be the first of every batch, and with enough of them no other lease would be
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
