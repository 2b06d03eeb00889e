"""Leases that end without an outcome: they are reaped, given back, or of dead
workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NotRequired, TypedDict, Unpack

from pgflow_cli.errors import (
    REFUSALS,
    LeasesRefused,
    PgflowError,
)
from pgflow_cli.models.jobs import EndedJob
from pgflow_cli.repository.base import Statements
from pgflow_cli.repository.counters import Counters
from pgflow_cli.repository.literals import array

# A crash budget that no attempt exceeds: these jobs had not started.
_NO_ATTEMPT_YET = 0
_NO_LEASE = {"limit": 0, "only": "{}", "passed_over": "{}"}


class _How(TypedDict):
    """How leases end, and what their jobs become."""

    status: str
    # The attempts that had started: job id and number. None: all of them, perhaps.
    started: Sequence[tuple[str, int]] | None
    crash_budget: int
    error_code: str | None
    error_message: str | None
    bury_as: NotRequired[str | None]
    canceled_by: NotRequired[str | None]


class UnsettledLeases(Statements):
    """Ends leases of other processes, and counts them."""

    def reap_expired_locks(
        self,
        *,
        limit: int,
        crash_budget: int,
        only: Sequence[str] | None = None,
        passed_over: Sequence[str] = (),
    ) -> list[EndedJob]:
        """Return jobs to their queue whose worker has gone silent.

        A job that has spent its crash budget is dead-lettered instead. Safe to run from
        several processes at once: each lease is taken by one of them. Raises
        `LeasesRefused`, as `end_worker` does, and then none has ended.
        """
        wanted = {
            "limit": limit,
            "only": None if only is None else array(only),
            "passed_over": array(passed_over),
        }
        lease_ids: list[str] = []
        with _told_apart(lease_ids), self.transaction():
            locked = self.link.tuples("lock_expired_leases", wanted)
            lease_ids += [row[0] for row in locked]
            return self._end(
                lease_ids,
                expired=[row[1] for row in locked],
                status="lost",
                started=None,
                crash_budget=crash_budget,
                error_code="WORKER_LOST",
                error_message="the worker stopped reporting before the job ended",
            )

    def end_worker(
        self,
        worker_id: str,
        *,
        status: str,
        started: Sequence[tuple[str, int]],
        crash_budget: int,
        error_code: str | None,
        error_message: str,
        only: Sequence[str] | None = None,
    ) -> list[EndedJob]:
        """End the leases of a process that is dead for certain.

        The attempts (job id, number) that it had `started` are recorded with the
        `status` (lost or released); other jobs go back as they were. Sent again, it
        ends leases that a late statement of the process has taken meanwhile, and
        charges none of their jobs. Raises `LeasesRefused`.
        """
        lease_ids: list[str] = []
        with _told_apart(lease_ids), self.transaction():
            locked = self._lock_worker_leases(worker_id, only=only)
            lease_ids += [row[0] for row in locked]
            return self._end(
                lease_ids,
                status=status,
                started=started,
                crash_budget=crash_budget,
                error_code=error_code,
                error_message=error_message,
            )

    def list_worker_leases(self, worker_ids: Sequence[str]) -> list[tuple[str, str]]:
        """List the leases of these processes: the process, the lease."""
        wanted = {"worker_ids": array(worker_ids)}
        return self.link.tuples("list_worker_leases", wanted)

    def give_back_batches(
        self, worker_id: str, batch_ids: Sequence[str]
    ) -> tuple[list[EndedJob], set[str]]:
        """Give back batches whose reply was lost: none of their jobs has started.

        Also returns the batches of those that were found.
        """
        with self.transaction():
            locked = self._lock_worker_leases(worker_id, batch_ids=batch_ids)
            ended = self._end(
                [row[0] for row in locked],
                status="released",
                started=[],
                crash_budget=_NO_ATTEMPT_YET,
                error_code=None,
                error_message=None,
            )
            return ended, {row[1] for row in locked}

    def _lock_worker_leases(
        self,
        worker_id: str,
        *,
        batch_ids: Sequence[str] | None = None,
        only: Sequence[str] | None = None,
    ) -> list[tuple[str, str]]:
        wanted = {
            "worker_id": worker_id,
            "batch_ids": None if batch_ids is None else array(batch_ids),
            "only": None if only is None else array(only),
        }
        return self.link.tuples("lock_worker_leases", wanted)

    def lock_interrupted_leases(self) -> list[str]:
        """Lock the leases of workers that are not known; return their ids."""
        return [row[0] for row in self.link.tuples("lock_interrupted_leases")]

    def end_interrupted_leases(
        self,
        *,
        status: str,
        error_code: str | None,
        error_message: str,
        bury_as: str | None = None,
        canceled_by: str | None = None,
    ) -> list[EndedJob]:
        """End the leases of workers that are not known, each job with an attempt.

        Their jobs go back to their queue, or are dead-lettered or canceled.
        """
        with self.transaction():
            return self._end(
                self.lock_interrupted_leases(),
                status=status,
                started=None,
                crash_budget=_NO_ATTEMPT_YET,
                error_code=error_code,
                error_message=error_message,
                bury_as=bury_as,
                canceled_by=canceled_by,
            )

    def try_to_end(self) -> None:
        """Run the statement that ends leases for no lease: it raises if no lease can be
        ended.
        """
        with self.transaction():
            self.link.tuples("lock_expired_leases", _NO_LEASE)
            self._send_ends(
                [],
                status="lost",
                started=None,
                crash_budget=_NO_ATTEMPT_YET,
                error_code=None,
                error_message=None,
            )

    def _end(
        self,
        lease_ids: Sequence[str],
        *,
        expired: Sequence[str] = (),
        **how: Unpack[_How],
    ) -> list[EndedJob]:
        """End locked leases."""
        if not lease_ids:
            return []
        ended = self._send_ends(lease_ids, **how)
        attempts = [(job.job_id, job.attempt_no) for job in ended if job.started]
        Counters(self.link).count_attempts(attempts, expired=expired)
        return ended

    def _send_ends(
        self, lease_ids: Sequence[str], **how: Unpack[_How]
    ) -> list[EndedJob]:
        started = how["started"]
        parameters = {
            "lease_ids": array(lease_ids),
            "bury_as": None,
            "canceled_by": None,
            **how,
            "started": None if started is None else array(job for job, _ in started),
            "started_nos": array(str(number) for _, number in started or ()),
        }
        return self.link.rows("end_leases", EndedJob, parameters)

    def forget_silent_workers(self) -> list[str]:
        """Remove workers that have been silent for ten leases, at least ten minutes;
        return their names.
        """
        return [row[0] for row in self.link.tuples("forget_silent_workers")]

    def forget_workers(self, worker_ids: Sequence[str]) -> None:
        """Remove processes that have ended in good order."""
        self.link.count("forget_workers", {"worker_ids": array(worker_ids)})


@contextmanager
def _told_apart(lease_ids: Sequence[str]) -> Iterator[None]:
    """Name the leases whose end has failed, so that the caller ends each by itself: a
    trigger may raise any error for one of them, also at commit.
    """
    try:
        yield
    except PgflowError as error:
        if lease_ids and (isinstance(error, REFUSALS) or len(lease_ids) > 1):
            raise LeasesRefused(error.message, lease_ids=lease_ids) from error
        raise
