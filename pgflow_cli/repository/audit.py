"""Statements that record what operators do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pgflow_cli.models.audit import Operator
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.repository.base import Part


class Actions(Part):
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

    def resolve_queues(self, chosen: JobFilter) -> JobFilter:
        """Return the filter with its globs replaced by names of queues."""
        return chosen.expand(self.list_queue_names())

    def list_queue_names(self, names: Sequence[str] | None = None) -> list[str]:
        """Return every queue that is in use or has a policy, or those of some names."""
        wanted = {"names": None if names is None else list(names)}
        return [row[0] for row in self.link.tuples("list_queue_names", wanted)]
