"""What a supervisor's processes have counted, on its way to the database."""

from __future__ import annotations

import threading

from pgflow_cli.repository import Repository
from pgflow_cli.telemetry.counters import (
    Labels,
    Tally,
    counter_rows,
    limited,
    rate_rows,
)


class Ledger:
    """Each count reaches the database once, whatever becomes of the connection.

    What was sent and not confirmed is sent again as it was, under the same number.
    """

    def __init__(self) -> None:
        self._waiting = Tally()
        self._lock = threading.Lock()
        self._sent: Tally | None = None
        self._number = 0
        self._labels = Labels()

    def add(self, tally: Tally) -> None:
        """Take what a process has counted; from any thread."""
        with self._lock:
            self._waiting.add(tally)

    def flush(self, repository: Repository, supervisor_id: str) -> None:
        """Add what has come together; a statement only if there is anything.

        Raises what the statement raises; nothing is forgotten then.
        """
        if self._sent is None:
            with self._lock:
                self._sent, self._waiting = self._waiting, Tally()
            self._number += 1
        if self._sent:
            repository.add_counters(
                supervisor_id,
                self._number,
                counters=counter_rows(limited(self._sent, self._labels)),
                rates=rate_rows(self._sent),
            )
        self._sent = None
