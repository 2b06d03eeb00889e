"""How long a process's jobs take, and whether they compute or wait. Pure."""

from __future__ import annotations

import statistics
from collections import deque


class Pace:
    """Medians of the newest jobs.

    Medians, because now and then any job waits for the interpreter, and that says
    nothing of its kind. `computing` is True while jobs hardly wait for anything: a
    second thread would gain them nothing.
    """

    SAMPLED = 8  # of so many jobs, one's processor time: its clock is a system call
    KEPT = 31
    SHORT = 0.0002  # seconds a job may wait and still be one that only computes

    def __init__(self) -> None:
        self._took: deque[float] = deque(maxlen=self.KEPT)
        self._waited: deque[float] = deque([0.0], maxlen=self.KEPT)
        self.computing = True

    def note(self, took: float, worked: float | None) -> None:
        """Remember a job that took so many seconds, so many of them of the processor.

        None: the processor's time was not measured.
        """
        self._took.append(took)
        if worked is not None:
            self._waited.append(took - worked)

    def look(self) -> float | None:
        """Return the seconds that a job takes; None before the first was measured."""
        if not self._took:
            return None
        self.computing = statistics.median(self._waited) < self.SHORT
        return max(statistics.median(self._took), 1e-6)
