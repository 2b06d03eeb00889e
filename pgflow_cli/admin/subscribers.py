"""What is told to a page that listens, and what each has not heard yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from pgflow_cli.formats import values

KEPT = 8  # events that wait for a client; of more, the oldest goes


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a page should look at again; its data is small, never a job's."""

    name: str
    data: object

    def encoded(self) -> bytes:
        """Return it in the format of an event stream."""
        # JSON has no line ends of its own, which would end the event.
        return f"event: {self.name}\ndata: {values.json_of(self.data)}\n\n".encode()


# For a page that was away, or could not keep up: it may have missed anything.
EVERYTHING = (Event("queues", {"queues": None}), Event("jobs", {"queues": None}))


class Subscriber:
    """One client's queue of events, filled by one thread and emptied by another."""

    def __init__(self) -> None:
        self.is_new = True
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._missed = False

    def tell(self, events: Iterable[Event]) -> None:
        """Add events. Of more than eight the oldest go; the client will look at
        everything.
        """
        with self._changed:
            self._waiting.extend(events)
            while len(self._waiting) > KEPT:
                self._waiting.popleft()
                self._missed = True
            self._changed.notify()

    def take(self, seconds: float) -> list[Event]:
        """Return new events; none if `seconds` pass without any."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(seconds)
            taken = [*(EVERYTHING if self._missed else ()), *self._waiting]
            self._waiting.clear()
            self._missed = False
            return taken
