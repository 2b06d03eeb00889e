"""Statements of `pgflow maintain`, without those of the archive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pgflow_cli.models.maintenance import RetentionLimits
from pgflow_cli.models.schema import PartitionPlan, SchemaLockHolder
from pgflow_cli.repository.base import Statements


class Maintenance(Statements):
    """The lock of `maintain`, the record of its tasks, and the small tasks."""

    def begin_maintenance(self, *, lock_wait: float) -> None:
        """Lock maintenance until the transaction ends.

        It must be the first statement of its transaction, which may stay open as long
        as needed: it has neither a snapshot nor a transaction id that would hold back
        vacuum. Raises `Contention` after waiting `lock_wait` seconds.
        """
        self.link.tuples("keep_transaction_open")
        wait = max(1, round(lock_wait * 1000))
        self.link.limit_lock_waits(wait)
        self.lock_maintenance()

    def lock_maintenance(self) -> None:
        """Take the lock; taken again, it shows that the connection still holds it."""
        self.link.count("lock_maintenance")

    def find_maintainer(self) -> SchemaLockHolder | None:
        """Return the session that runs `maintain` now."""
        return next(iter(self.link.rows("find_maintainer", SchemaLockHolder)), None)

    def find_cuts(
        self,
        *,
        archive_after: float,
        prune_after: float,
        dlq_retention: float | None,
        interval: float,
    ) -> RetentionLimits:
        """Return the time, and the times before which rows are archived or pruned."""
        wanted = {
            "archive_after": archive_after,
            "prune_after": prune_after,
            "dlq_retention": dlq_retention,
            "interval": interval,
        }
        return self.link.rows("find_cuts", RetentionLimits, wanted)[0]

    def begin_task(self, task: str, *, runner: str) -> None:
        """Record that a task begins."""
        self.link.count("begin_task", {"task": task, "runner": runner})

    def finish_task(
        self, task: str, *, result: str, rows: int, seconds: float, detail: str
    ) -> None:
        """Record how a task ended; `ok` is a success."""
        self.link.count(
            "finish_task",
            {
                "task": task,
                "result": result,
                "rows": rows,
                "seconds": seconds,
                "detail": detail,
            },
        )

    def count_expired_leases(self, *, limit: int) -> int:
        """Return how many leases have run out, at most `limit`."""
        return int(self.link.tuples("count_expired_leases", {"limit": limit})[0][0])

    def count_silent_workers(self) -> int:
        """Return how many workers would be forgotten."""
        return int(self.link.tuples("count_silent_workers")[0][0])

    def prune_enqueue_counters(self, *, limit: int, dry_run: bool = False) -> int:
        """Delete counts of enqueued jobs that are too old for every limit."""
        wanted = {"limit": limit, "dry_run": dry_run}
        return int(self.link.tuples("prune_enqueue_counters", wanted)[0][0])

    def prune_attempt_counters(self, *, limit: int, dry_run: bool = False) -> int:
        """Delete counts of attempts that are too old for every limit."""
        wanted = {"limit": limit, "dry_run": dry_run}
        return int(self.link.tuples("prune_attempt_counters", wanted)[0][0])

    def renew_places(self) -> None:
        """Record which queues and priorities are in use, and keep one row for each."""
        self.link.count("renew_places")

    def record_places(self) -> list[tuple[str, int]]:
        """Record queues and priorities whose jobs no lease finds; return them."""
        return [(row[0], row[1]) for row in self.link.tuples("record_places")]

    def retire_places(
        self,
        unused_since: datetime,
        after_id: str,
        *,
        limit: int,
        dry_run: bool = False,
    ) -> list[str]:
        """Retire queues and priorities unused since then; return the ids of their rows.

        In the order of ids, behind `after_id`. Rows that were retired before are
        returned, too.
        """
        wanted = {
            "unused_since": unused_since,
            "after_id": after_id,
            "limit": limit,
            "dry_run": dry_run,
        }
        return [row[0] for row in self.link.tuples("retire_places", wanted)]

    def list_transactions(self) -> dict[str, bool]:
        """Return the transactions that are open in this database, by unique names:
        whether each is prepared.
        """
        return dict(self.link.tuples("list_transactions"))

    def forget_places(self, ids: Sequence[str]) -> list[str]:
        """Delete retired rows; return the queues of which none is left.

        Call it only after every transaction that began before they were retired has
        ended.
        """
        rows = self.link.tuples("forget_places", {"ids": list(ids)})
        return [row[0] for row in rows]

    def forget_counters(self, queues: Sequence[str]) -> None:
        """Add the counters of forgotten queues to those of `other`."""
        self.link.count("forget_counters", {"queues": list(queues)})

    def plan_analyze(self) -> list[PartitionPlan]:
        """Return the tables whose statistics have grown old, and how to renew them."""
        return self.link.rows("plan_analyze", PartitionPlan)

    def run_plan(self, plan: PartitionPlan) -> None:
        """Run statements that a query has planned, each in a transaction of its own."""
        for statement in plan.statements:
            self.link.run_text(statement)
