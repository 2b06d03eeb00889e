"""Statements about what guards and policies have decided."""

from __future__ import annotations

from collections.abc import Sequence

from pgflow_cli.listings import Decision, DecisionGroup
from pgflow_cli.repository.base import Part
from pgflow_cli.selection import JobFilter, Position


class Decisions(Part):
    """Refused enqueues and jobs held back, by the minute."""

    def list_decisions(
        self,
        chosen: JobFilter,
        *,
        kinds: Sequence[str],
        limit: int,
        after: Position | None,
    ) -> list[Decision]:
        """Return decisions, the latest minute first; `kinds`: ingest, policy."""
        at, identity = after or (None, "-0")
        kind, _, number = identity.partition("-")
        bounds = {"after_at": at, "after_kind": kind, "after_number": int(number or 0)}
        return self.link.rows(
            "list_decisions",
            Decision,
            {**chosen.parameters(), **bounds, "kinds": list(kinds), "limit": limit},
        )

    def list_decision_groups(
        self, chosen: JobFilter, *, kinds: Sequence[str], limit: int
    ) -> list[DecisionGroup]:
        """Return decisions by queue and reason, the most frequent first."""
        return self.link.rows(
            "list_decision_groups",
            DecisionGroup,
            {**chosen.parameters(), "kinds": list(kinds), "limit": limit},
        )
