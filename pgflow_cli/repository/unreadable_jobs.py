"""Statements about jobs whose rows cannot be read: each fails the lease that meets
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pgflow_cli.models.jobs import UnreadableJob
from pgflow_cli.repository.base import Statements


class UnreadableJobs(Statements):
    """Due jobs whose rows cannot be read: dead-lettered or postponed.

    Only the first `limit` jobs are read of each queue and rank that a worker with these
    queues and types leases from; None means any.
    """

    def bury_unreadable_jobs(
        self,
        *,
        queues: Sequence[str] | None,
        job_types: Sequence[str] | None,
        limit: int,
    ) -> list[UnreadableJob]:
        """Make dead letters of them, with the reason UNREADABLE; return them.

        A job that a disk does not read is left: a later read may succeed.
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
        """Make them due in an hour; return them."""
        wanted = _wanted(queues, job_types, limit)
        with self._by_key():
            return self.link.rows("postpone_unreadable_jobs", UnreadableJob, wanted)

    @contextmanager
    def _by_key(self) -> Iterator[None]:
        """Read by index in the block: a sequential scan would meet the damaged page."""
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
