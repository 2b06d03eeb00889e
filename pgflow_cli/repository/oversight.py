"""Statements about what operators oversee: workers, decisions, actions."""

from __future__ import annotations

from collections.abc import Sequence

from pgflow_cli.models.audit import OperatorAction
from pgflow_cli.models.decisions import Decision, DecisionGroup
from pgflow_cli.models.selection import MOST_ROWS, JobFilter, Position, after_parameters
from pgflow_cli.models.workers import ListedWorker
from pgflow_cli.repository.base import Part


class Oversight(Part):
    """Lists of what is not a job."""

    def list_worker_processes(self) -> list[ListedWorker]:
        """Return the worker processes that are known, alive or not."""
        return self.link.rows("list_worker_processes", ListedWorker)

    def list_newest_worker_processes(
        self, chosen: JobFilter, limit: int, after: Position | None = None
    ) -> list[ListedWorker]:
        """Return those that serve a queue and were heard of, the one started last
        first.
        """
        return self.link.rows(
            "list_newest_worker_processes",
            ListedWorker,
            {**chosen.parameters(), **after_parameters(after), "limit": limit},
        )

    def quiet_workers(self, worker_ids: Sequence[str]) -> list[str]:
        """Have processes lease nothing; return those that did until now."""
        rows = self.link.tuples("quiet_workers", {"worker_ids": list(worker_ids)})
        return [row[0] for row in rows]

    def resume_workers(self, worker_ids: Sequence[str]) -> list[str]:
        """Have quiet processes lease again; return those that were quiet until now."""
        rows = self.link.tuples("resume_workers", {"worker_ids": list(worker_ids)})
        return [row[0] for row in rows]

    def forget_silent_processes(self, worker_ids: Sequence[str]) -> list[str]:
        """Remove those processes that are silent still; return them."""
        rows = self.link.tuples(
            "forget_silent_processes", {"worker_ids": list(worker_ids)}
        )
        return [row[0] for row in rows]

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

    def list_actions(
        self,
        chosen: JobFilter,
        limit: int,
        after: Position | None = None,
        *,
        actor: str | None = None,
        action: str | None = None,
    ) -> list[OperatorAction]:
        """Return what operators have changed, the newest first."""
        return self.link.rows(
            "list_actions",
            OperatorAction,
            {
                **chosen.parameters(),
                **after_parameters(after),
                "actor": actor,
                "action": action,
                "limit": limit,
            },
        )
