"""A deadline for every call: no other timeout bounds a peer that stays silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Severable(Protocol):
    """A connection whose blocked caller can be freed from another thread."""

    def sever(self) -> None:
        """Free the thread that is blocked on it."""
        ...


class Watchdog:
    """Frees threads whose call has passed its deadline, by shutting their socket.

    No libpq or server timeout bounds a peer that stays silent; this does, within `TICK`
    seconds. One thread serves every connection of a process and starts with the first
    call that has a deadline.
    """

    TICK = 0.1

    def __init__(self) -> None:
        self._guarded: dict[Severable, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def guard(self, link: Severable, seconds: float | None) -> Iterator[None]:
        """Sever the link if the block takes longer than `seconds`; None: no limit."""
        if seconds is None:
            yield
            return
        if self._thread is None:
            self._start()
        # A plain dict: assigning and deleting one key are atomic, so the hot path takes
        # no lock.
        self._guarded[link] = time.monotonic() + seconds
        try:
            yield
        finally:
            self._guarded.pop(link, None)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="pgflow-watchdog", daemon=True
                )
                self._thread.start()

    def _watch(self) -> None:
        while True:
            time.sleep(self.TICK)
            now = time.monotonic()
            for link, deadline in list(self._guarded.items()):
                if now >= deadline and self._guarded.pop(link, None) is not None:
                    link.sever()
