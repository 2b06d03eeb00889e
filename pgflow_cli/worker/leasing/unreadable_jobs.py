"""Jobs whose rows cannot be read: one of them would fail every lease of its queue."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pgflow_cli.errors import PASSING, REFUSALS, Contention
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.models.jobs import UnreadableJob
from pgflow_cli.repository import Repository
from pgflow_cli.telemetry import logs
from pgflow_cli.worker.options import WorkerOptions

log = logging.getLogger("pgflow.worker")

PAUSE = 30.0  # seconds after a search that has found nothing, or has failed


class Unreadable:
    """Searches for such jobs when leases fail though the database takes statements.

    What it finds becomes a dead letter. It is passed over for an hour if the database
    refuses even that, or if it is the disk that does not read: that may come back. In
    vain it searches only every `PAUSE` seconds, unless it is known that there is such a
    job.
    """

    def __init__(self, repository: Repository, options: WorkerOptions) -> None:
        self._repository, self._options = repository, options
        self._next_search = 0.0

    def is_due(self) -> bool:
        """Say whether a search may begin."""
        return monotonic() >= self._next_search

    def expect(self) -> None:
        """Search again at once: a job was leased that cannot be decoded. Another
        connection may have had it in a lease during the last search.
        """
        self._next_search = 0.0

    def search(self, job_types: Sequence[str] | None) -> bool:
        """Set such jobs aside; return whether there were any."""
        self._next_search = monotonic() + PAUSE
        try:
            found = self._bury(job_types)
        except (*PASSING, *REFUSALS, Contention) as error:
            log.warning(
                "leases fail, and what they fail on cannot be searched for: %s",
                error,
                extra=logs.trouble("unreadable_search_failed", error),
            )
            return False
        if found:
            self._next_search = 0.0  # there may be more of them behind
        return bool(found)

    def _bury(self, job_types: Sequence[str] | None) -> list[UnreadableJob]:
        options = self._options
        try:
            found = self._repository.unreadable_jobs.bury_unreadable_jobs(
                queues=options.queues, job_types=job_types, limit=options.batch_size
            )
        except REFUSALS as error:
            log.warning(
                "jobs that cannot be read cannot be dead letters: %s",
                error,
                extra=logs.trouble("outcome_refused", error),
            )
            found = self._postpone(job_types)
        else:
            _tell(found, "dead: UNREADABLE")
            if found:
                return found
            found = self._postpone(job_types)
        _tell(found, "passed over for an hour")
        return found

    def _postpone(self, job_types: Sequence[str] | None) -> list[UnreadableJob]:
        options = self._options
        return self._repository.unreadable_jobs.postpone_unreadable_jobs(
            queues=options.queues, job_types=job_types, limit=options.batch_size
        )


def _tell(found: Sequence[UnreadableJob], words: str) -> None:
    for job in found:
        log.error(
            "job %s was not leased, %s: %s",
            job.job_id,
            words,
            job.error_message,
            extra={
                "event": "job_unreadable",
                "queue": job.queue,
                "job_id": job.job_id,
                "job_type": job.job_type,
                "reason_code": "UNREADABLE",
            },
        )
