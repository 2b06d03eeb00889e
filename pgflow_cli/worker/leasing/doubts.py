"""Batches that may have been leased without the worker's knowledge."""

from __future__ import annotations

import threading

LOOK = 0.5  # seconds between two looks; a late batch's lease lasts several of them


class Doubts:
    """The batches whose lease statement was cut off before its reply came.

    Such a statement may have committed, or may still be waiting on the server and
    commit at any time. A batch is looked for until it is found or two leases have
    passed; none of its jobs has started, so it is given back and costs no attempt. All
    connections of a process share them.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}  # batch id -> when its statement was cut off
        self._next_look = 0.0

    def add(self, batch_id: str, now: float) -> None:
        """Look for a batch from now on."""
        with self._lock:
            self._since[batch_id] = self._next_look = now

    def due(self, now: float) -> list[str]:
        """Return the batches to look for now; the next look is due later."""
        with self._lock:
            if not self._since or now < self._next_look:
                return []
            self._next_look = now + LOOK
            return [*self._since]

    def looked(self, found: set[str], asked: float) -> None:
        """Forget the batches that were found, and those that were not though they had
        two leases' time when the database was `asked`.
        """
        until = asked - 2 * self._lease_seconds
        with self._lock:
            self._since = {
                batch_id: since
                for batch_id, since in self._since.items()
                if batch_id not in found and since > until
            }

    def pause(self, now: float) -> float | None:
        """Return the seconds until the next look; None without a doubt."""
        with self._lock:
            return max(0.0, self._next_look - now) if self._since else None

    def pressing(self, now: float) -> bool:
        """Say whether a batch was cut off less than a lease ago: the process does not
        end now, and its queues are not known to be drained.
        """
        with self._lock:
            return any(now - at < self._lease_seconds for at in self._since.values())
