"""Statements about refusals at the gate, and jobs that are held back."""

from __future__ import annotations

from pgflow_cli.models.decisions import Decision, DecisionGroup
from pgflow_cli.models.selection import MOST_ROWS, JobFilter, Position, after_parameters
from pgflow_cli.repository.base import Statements


class Decisions(Statements):
    """Ingest decisions (refused enqueues) and policy decisions (jobs held back)."""

    def list_decisions(
        self, chosen: JobFilter, kind: str, limit: int, after: Position | None = None
    ) -> list[Decision]:
        """Return decisions, newest first; `kind` is all, ingest, policy."""
        return self.link.rows(
            "list_decisions",
            Decision,
            {
                **chosen.parameters(),
                **after_parameters(after),
                "kind": kind,
                "limit": limit,
            },
        )

    def group_decisions(self, chosen: JobFilter, kind: str) -> list[DecisionGroup]:
        """Return decisions by queue and reason, the most frequent first."""
        return self.link.rows(
            "group_decisions",
            DecisionGroup,
            {**chosen.parameters(), "kind": kind, "limit": MOST_ROWS},
        )
