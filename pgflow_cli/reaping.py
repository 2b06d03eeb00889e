"""Ends of leases for workers that cannot end them: one lease whose end the database
refuses (a trigger says no) keeps no other from being ended.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence

from pgflow_cli.clock import monotonic
from pgflow_cli.errors import (
    PASSING,
    Contention,
    LeasesRefused,
    OutcomeUnknown,
    PgflowError,
)
from pgflow_cli.models import EndedJob
from pgflow_cli.repository import Repository

log = logging.getLogger("pgflow.reaping")

# Ends these leases; without a list, all it finds.
End = Callable[[Sequence[str] | None], list[EndedJob]]


MOST_FAILURES = 3  # in a row; then it is the database, not a few leases


def end_leases(end: End) -> tuple[list[EndedJob], list[str]]:
    """End leases in one transaction; if the database refuses that, each in its own.

    Also returns the leases whose end it refuses: they stay as they are. Raises what an
    outage raises.
    """
    try:
        return end(None), []
    except LeasesRefused as error:
        reason, lease_ids = error, error.lease_ids
    apart = _Apart(end)
    # In any order: those at the front may be the ones that fail.
    for lease_id in random.sample(lease_ids, len(lease_ids)):
        apart.end(lease_id)
    if apart.outage and not apart.ended:
        raise apart.outage
    if apart.refused:
        log.error(
            "%d leases cannot be ended, their jobs stay in them (a trigger or a"
            " constraint?): %s",
            len(apart.refused),
            apart.reason or apart.outage or reason,
            extra={"event": "leases_left", "count": len(apart.refused)},
        )
    return apart.ended, apart.refused


class _Apart:
    """Ends leases one by one.

    A trigger may be slow, or raise what an outage raises: such a lease is refused if
    others can be ended.
    """

    def __init__(self, end: End) -> None:
        self._end = end
        self._failures = 0
        self.ended: list[EndedJob] = []
        self.refused: list[str] = []
        self.reason: PgflowError | None = None
        self.outage: PgflowError | None = None

    def end(self, lease_id: str) -> None:
        try:
            self.ended += self._end([lease_id])
        except LeasesRefused as error:
            self.reason = error
            self.refused.append(lease_id)
        except (*PASSING, Contention) as error:
            self.outage = error
            self._failures += 1
            if isinstance(error, OutcomeUnknown) or self._failures >= MOST_FAILURES:
                raise
            self.refused.append(lease_id)
        else:
            self._failures = 0


class Reaper:
    """Reaps batch after batch. A lease whose end was refused is passed over for a
    while: they would be the first of every batch, and with enough of them no other
    lease would be reaped.
    """

    PASSED_OVER = 60.0  # seconds

    def __init__(self, crash_budget: int) -> None:
        self._crash_budget = crash_budget
        self._refused: dict[str, float] = {}  # lease id -> when to try again

    def reap(self, repository: Repository, *, limit: int) -> list[EndedJob]:
        """Reap up to `limit` expired leases."""
        while True:
            now = monotonic()
            self._refused = {k: at for k, at in self._refused.items() if at > now}
            ended, refused = end_leases(
                lambda only: repository.reap_expired_locks(
                    limit=limit,
                    crash_budget=self._crash_budget,
                    only=only,
                    passed_over=[*self._refused],
                )
            )
            self._refused.update(dict.fromkeys(refused, now + self.PASSED_OVER))
            if ended or not refused:
                return ended
