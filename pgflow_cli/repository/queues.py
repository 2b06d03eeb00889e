"""Statements about queues: their names, limits, pauses, purges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta

from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import TypeCounts
from pgflow_cli.models.queues import QueueBound, QueueCounts, QueuePolicy
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.repository.base import Statements


class Queues(Statements):
    """Changes of whole queues; each stands in one transaction with its row of the
    audit.
    """

    def read_policies(self, queues: Sequence[str]) -> dict[str, QueuePolicy]:
        """Return the policies of queues that have one, locked for this transaction."""
        rows = self.link.rows("read_policies", QueuePolicy, {"queues": list(queues)})
        return {row.queue: row for row in rows}

    def set_policy(
        self, queue: str, limits: Mapping[str, int | None], operator: Operator
    ) -> None:
        """Set the limits that are named; None removes one."""
        self.link.count(
            "set_policy",
            {"queue": queue, "limits": json.dumps(limits), "actor": operator.actor},
        )

    def clear_policies(self, queues: Sequence[str], operator: Operator) -> None:
        """Remove every limit; a pause stays."""
        self.link.count(
            "clear_policies", {"queues": list(queues), "actor": operator.actor}
        )

    def read_queue_bound(self) -> QueueBound:
        """Return how many queues and priorities there may be, and are."""
        return self.link.rows("read_queue_bound", QueueBound)[0]

    def set_queue_bound(self, max_queues: int) -> None:
        """Set how many there may be; existing ones stay."""
        self.link.count("set_queue_bound", {"max_queues": max_queues})

    def pause_queues(
        self, queues: Sequence[str], length: float | None, operator: Operator
    ) -> None:
        """Lease nothing from queues, for so many seconds or until they are resumed."""
        self.link.count(
            "pause_queues",
            {
                "queues": list(queues),
                "length": None if length is None else timedelta(seconds=length),
                "actor": operator.actor,
                "note": operator.note,
            },
        )

    def resume_queues(self, queues: Sequence[str], operator: Operator) -> list[str]:
        """Lease from queues again; return those that were paused."""
        rows = self.link.tuples(
            "resume_queues", {"queues": list(queues), "actor": operator.actor}
        )
        return sorted(row[0] for row in rows)

    def count_queue(self, queue: str, *, limit: int) -> QueueCounts:
        """Count a queue's jobs, each figure up to the limit."""
        rows = self.link.rows(
            "count_queue", QueueCounts, {"queue": queue, "limit": limit}
        )
        return rows[0]

    def purge_pending(
        self, queue: str, status: str, operator: Operator, action_id: int, limit: int
    ) -> list[str]:
        """Cancel a batch of a queue's queued or scheduled jobs; return their ids."""
        rows = self.link.tuples(
            "purge_pending",
            {
                "queue": queue,
                "status": status,
                "actor": operator.actor,
                "note": operator.note,
                "action_id": action_id,
                "limit": limit,
            },
        )
        return [row[0] for row in rows]

    def purge_dead_letters(self, queue: str, action_id: int, limit: int) -> list[str]:
        """Discard a batch of a queue's dead letters; return the ids."""
        rows = self.link.tuples(
            "purge_dead_letters",
            {"queue": queue, "action_id": action_id, "limit": limit},
        )
        return [row[0] for row in rows]

    def count_jobs_by_type(self) -> list[TypeCounts]:
        """Return the jobs of each queue and type, counted by status."""
        return self.link.rows("count_jobs_by_type", TypeCounts)

    def suggest_names(self, kind: str, *, limit: int) -> list[tuple[str, str]]:
        """Return names of a kind with a short description each, for shell
        completion.
        """
        rows = self.link.tuples("suggest_names", {"kind": kind, "limit": limit})
        return [(row[0], row[1]) for row in rows]

    def holds_any_relation(self) -> bool:
        """Return whether schema pgflow holds anything yet."""
        ((held,),) = self.link.tuples("holds_any_relation")
        return bool(held)

    def resolve_queues(self, chosen: JobFilter) -> JobFilter:
        """Return the filter with its globs replaced by names of queues."""
        return chosen.expand(self.list_queue_names())

    def list_queue_names(self, names: Sequence[str] | None = None) -> list[str]:
        """Return every queue that is in use or has a policy, or those of some names."""
        wanted = {"names": None if names is None else list(names)}
        return [row[0] for row in self.link.tuples("list_queue_names", wanted)]
