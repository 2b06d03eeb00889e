"""Ends of leases for workers that cannot end them: one lease whose end the database
refuses (a trigger says no) keeps no other from being ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pgflow_cli.clock import monotonic
from pgflow_cli.errors import LeasesRefused
from pgflow_cli.models import EndedJob
from pgflow_cli.repository import Repository

log = logging.getLogger("pgflow.reaping")

# Ends these leases; without a list, all it finds.
End = Callable[[Sequence[str] | None], list[EndedJob]]


def end_leases(end: End) -> tuple[list[EndedJob], list[str]]:
    """End leases in one transaction; if the database refuses that, each in its own.

    Also returns the leases whose end it refuses: they stay as they are.
    """
    try:
        return end(None), []
    except LeasesRefused as error:
        reason, lease_ids = error, error.lease_ids
    ended: list[EndedJob] = []
    refused: list[str] = []
    for lease_id in lease_ids:
        try:
            ended += end([lease_id])
        except LeasesRefused as error:
            reason = error
            refused.append(lease_id)
    if refused:
        log.error(
            "%d leases cannot be ended, their jobs stay in them (a trigger or a"
            " constraint?): %s",
            len(refused),
            reason,
            extra={"event": "leases_left", "count": len(refused)},
        )
    return ended, refused


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
