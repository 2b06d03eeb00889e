"""One look at all queues for everybody who asks within a second."""

from __future__ import annotations

import threading
import time

from pgflow_cli import census
from pgflow_cli.admin.pools import Pool
from pgflow_cli.census import Census

_FRESH = 1.0  # seconds; a page asks anew every few


class Glances:
    """Takes a census, at most one at a time, and keeps it for a second.

    Many screens on a wall cost the database as much as one.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._taken: Census | None = None
        self._at = 0.0

    def latest(self) -> Census:
        """Return a census that is no older than a second."""
        with self._lock:
            if self._taken is None or time.monotonic() - self._at > _FRESH:
                with self._pool.repository() as repository:
                    self._taken = census.take(repository)
                self._at = time.monotonic()
            return self._taken

    def forget(self) -> None:
        """Look again next time: something was changed here."""
        with self._lock:
            self._taken = None
