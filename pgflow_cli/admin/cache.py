"""One report of all queues for all requests of a second."""

from __future__ import annotations

import threading
import time

from pgflow_cli.admin.pool import Pool
from pgflow_cli.errors import PgflowError
from pgflow_cli.inspection import queues
from pgflow_cli.inspection.queues import QueueReport

_FRESH = 1.0  # seconds; a page asks again every few


class ReportCache:
    """Makes a report of all queues, at most one at a time, and keeps it for a second.

    Many screens on a wall cost the database no more than one.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._taken: QueueReport | None = None
        self._at = 0.0
        self._failed: PgflowError | None = None
        self._failed_at = 0.0

    def latest(self) -> QueueReport:
        """Return a report that is no older than a second.

        Callers that waited for a look that failed get its error: where a database does
        not answer, one try after another would hold up every thread of the server.
        """
        asked = time.monotonic()
        with self._lock:
            if self._failed is not None and self._failed_at > asked:
                raise self._failed.with_traceback(None)
            if self._taken is None or time.monotonic() - self._at > _FRESH:
                self._taken = self._look()
                self._at = time.monotonic()
            return self._taken

    def forget(self) -> None:
        """Look again next time: something was changed here."""
        with self._lock:
            self._taken = None

    def _look(self) -> QueueReport:
        self._failed = None
        try:
            with self._pool.repository() as repository:
                return queues.take(repository)
        except PgflowError as error:
            self._failed, self._failed_at = error, time.monotonic()
            raise
