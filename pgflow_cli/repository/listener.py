"""LISTEN and NOTIFY. A notification is only a hint: it may be late, lost or forged."""

from __future__ import annotations

import time
import uuid

from pgflow_cli.errors import DatabaseUnavailable
from pgflow_cli.repository.connection import Link
from pgflow_cli.repository.database import Database


class Listener:
    """A connection that only listens. It is never in a transaction, because a listener
    in a transaction keeps the server from shortening its notification queue.
    """

    TEST = "test:"  # no queue has a colon
    TEST_INTERVAL = 30.0  # seconds between two tests of the connection

    def __init__(self, database: Database) -> None:
        self._link = Link(database)
        # The connection that has sent LISTEN; one that replaces it has not.
        self._listening: object = None
        self._kept: list[str] = []

    def hears_itself(self, patience: float = 3.0) -> bool:
        """Say whether a notification to oneself arrives; others that arrive meanwhile
        are kept for `wait`.

        It is sent over another connection: behind a pooler LISTEN is accepted, and the
        server connection that took it may even answer a NOTIFY sent through it, but
        delivers nothing that others send. Raises `DatabaseUnavailable` if the line is
        silent or was cut, as after a pause of this process: then its deadlines have
        passed, though the server was never late.
        """
        if self._listening is None:
            self._link.execute("listen", None, None)
            self._listening = self._link.raw()
        token = f"{self.TEST}{uuid.uuid4()}"
        speaker = Link(self._link.database)
        try:
            speaker.execute("notify", {"payload": token}, None)
        finally:
            speaker.close()
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            heard = self._link.notifications(deadline - time.monotonic())
            self._kept += [payload for payload in heard if payload != token]
            if token in heard:
                return True
        self._require_line()
        # A notification arrives with the next answer at the latest. If a query has an
        # answer and no notification came, a pooler lies between; without an answer the
        # database is away.
        self._link.read_clock()
        heard = self._link.notifications(0)
        self._require_line()
        self._kept += [payload for payload in heard if payload != token]
        return token in heard

    def wait(self, seconds: float) -> list[str]:
        """Return the payloads received, at the first notification or after `seconds`.

        Raises `DatabaseUnavailable` if the line was cut.
        """
        self._require_line()
        if self._kept:
            kept, self._kept = self._kept, []
            return kept
        return self._link.notifications(seconds)

    def close(self) -> None:
        """Stop listening, and drop the notifications that were kept."""
        self._listening = None
        self._kept.clear()
        self._link.close()

    def _require_line(self) -> None:
        if self._link.raw() is not self._listening:
            raise DatabaseUnavailable("the connection that listens was lost")
