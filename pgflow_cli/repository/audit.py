"""Statements that record what operators do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pgflow_cli.models.audit import Operator, OperatorAction
from pgflow_cli.models.selection import JobFilter, Position, after_parameters
from pgflow_cli.repository.base import Statements


class AuditTrail(Statements):
    """The audit of every change that is made by hand."""

    def begin_action(
        self,
        operator: Operator,
        action: str,
        *,
        queue: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> int:
        """Record that an operator changes something; return the action's number.

        For a change of one statement, in its transaction. For one that goes in
        batches, before the first of them.
        """
        rows = self.link.tuples(
            "begin_action",
            {
                "actor": operator.actor,
                "action": action,
                "queue": queue,
                "command": operator.command,
                "note": operator.note,
                "details": json.dumps(details or {}),
            },
        )
        return int(rows[0][0])

    def extend_action(
        self, action_id: int, *, jobs: int = 0, job_ids: Sequence[str] = ()
    ) -> None:
        """Count jobs that an action has touched, in the transaction that does.

        `jobs` counts what is not named by `job_ids`.
        """
        self.link.count(
            "extend_action",
            {
                "action_id": action_id,
                "jobs": jobs + len(job_ids),
                "job_ids": list(job_ids),
            },
        )

    def finish_action(
        self, action_id: int, *, details: Mapping[str, object] | None = None
    ) -> None:
        """Say that an action has ended, with what is to be remembered of it."""
        self.link.count(
            "finish_action",
            {"action_id": action_id, "details": json.dumps(details or {})},
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
        """Return the changes by operators, the newest first."""
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
