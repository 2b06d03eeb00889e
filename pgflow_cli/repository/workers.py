"""Statements about worker processes."""

from __future__ import annotations

from collections.abc import Sequence

from pgflow_cli.models.selection import JobFilter, Position, after_parameters
from pgflow_cli.models.workers import ListedWorker, WorkerProcess
from pgflow_cli.repository.base import Statements


class Workers(Statements):
    """Worker processes, and what operators tell them to do."""

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
        """Tell processes to lease nothing; return those that leased until now."""
        rows = self.link.tuples("quiet_workers", {"worker_ids": list(worker_ids)})
        return [row[0] for row in rows]

    def resume_workers(self, worker_ids: Sequence[str]) -> list[str]:
        """Tell quiet processes to lease again; return those that were quiet until
        now.
        """
        rows = self.link.tuples("resume_workers", {"worker_ids": list(worker_ids)})
        return [row[0] for row in rows]

    def forget_silent_processes(self, worker_ids: Sequence[str]) -> list[str]:
        """Delete those of the processes that are still silent; return them."""
        rows = self.link.tuples(
            "forget_silent_processes", {"worker_ids": list(worker_ids)}
        )
        return [row[0] for row in rows]

    def list_workers(self) -> list[WorkerProcess]:
        """Return the worker processes that are known, alive or not."""
        return self.link.rows("list_workers", WorkerProcess)
