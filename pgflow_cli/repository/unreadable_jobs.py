"""Statements about jobs whose rows cannot be read: they hold up every lease."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pgflow_cli.models.jobs import UnreadableJob
from pgflow_cli.repository.base import Statements


class UnreadableJobs(Statements):
    """What becomes of due jobs whose rows cannot be read.

    Among the first `limit` of each place that a worker with these queues and types may
    take from; None: any.
    """

    def bury_unreadable_jobs(
        self,
        *,
        queues: Sequence[str] | None,
        job_types: Sequence[str] | None,
        limit: int,
    ) -> list[UnreadableJob]:
        """Make dead letters of them, with the reason UNREADABLE; return them.

        Not of those that a disk does not read: it may, later.
        """
        wanted = _wanted(queues, job_types, limit)
        with self._by_key():
            return self.link.rows("bury_unreadable_jobs", UnreadableJob, wanted)

    def postpone_unreadable_jobs(
        self,
        *,
        queues: Sequence[str] | None,
        job_types: Sequence[str] | None,
        limit: int,
    ) -> list[UnreadableJob]:
        """Let them be due an hour from now; return them."""
        wanted = _wanted(queues, job_types, limit)
        with self._by_key():
            return self.link.rows("postpone_unreadable_jobs", UnreadableJob, wanted)

    @contextmanager
    def _by_key(self) -> Iterator[None]:
        """Read by keys in the block: a table of few pages would be read as a whole, the
        damaged page included.
        """
        with self.transaction():
            self.link.plan_by_index()
            yield


def _wanted(
    queues: Sequence[str] | None, job_types: Sequence[str] | None, limit: int
) -> dict[str, object]:
    return {
        "queues": None if queues is None else list(queues),
        "job_types": None if job_types is None else list(job_types),
        "limit": limit,
    }
