"""Where a worker process scans `pending` from.

`pending` is a queue in a B-tree: entries die at the front, and what vacuum has not
removed yet lies exactly where a scan from the front begins. So a process remembers, for
each queue and rank, the last entry it leased, and begins there. Entries can appear
behind it (a transaction that committed late, a job given back, a clock step): therefore
it also sweeps from the front. The promise: no due job is passed over for longer than
`max(INTERVAL, SHARE × the cost of a sweep)`.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from pgflow_cli.models import CycleReply, Place, Position, Scan

_LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


@dataclass(frozen=True, slots=True)
class Started:
    """A scan that is under way; `at` is when it began, in seconds of the monotonic
    clock.
    """

    scan: Scan
    sweep: bool
    at: float
    room: int


class Cursors:
    """Cursors of one process, shared by its connections.

    Sweeping takes at most one part in `SHARE` of the time, so its cost is bounded
    whatever vacuum can or cannot remove.
    """

    INTERVAL = 0.25
    SHARE = 20
    CHEAP = 0.005

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._positions: dict[Place, Position] = {}
        self._last_queue = ""
        self._swept_at = float("-inf")
        # Seconds that the newest sweeps took. The least of them counts: a flush or a
        # neighbour may hold up any one of them, dead entries hold up all.
        self._costs: deque[float] = deque([0.0], maxlen=3)
        self._reached_end = True

    def begin(self, now: float, room: int, *, woken: bool = False) -> Started:
        """Decide where the next scan begins.

        It sweeps when the interval is over, and as soon as the cost allows it when the
        last scan reached the end or somebody has said that there is something new
        (`woken`).
        """
        with self._lock:
            cost = min(self._costs)
            pause = self.SHARE * cost
            if not (self._reached_end or woken):
                pause = max(self.INTERVAL, pause)
            elif cost < self.CHEAP:
                pause = 0.0
            sweep = room > 0 and now >= self._swept_at + pause
            if sweep:
                self._swept_at = now  # only one connection sweeps at a time
            positions = {} if sweep else dict(self._positions)
            return Started(Scan(positions, self._last_queue), sweep, now, room)

    def end(self, started: Started, reply: CycleReply, now: float) -> None:
        """Learn from what a scan returned."""
        if not started.room:
            return
        with self._lock:
            if started.sweep:
                self._swept_at = now
                self._costs.append(now - started.at)
            self._reached_end = len(reply.jobs) < started.room
            for job in reply.jobs:
                place = (job.queue, job.rank)
                position = (job.run_at, job.job_id)
                if position > self._positions.get(place, ("", "")):
                    self._positions[place] = position
            if self._reached_end:
                # Everything due at that instant has been seen; what commits late is the
                # sweep's.
                end = (reply.scanned_at, _LAST_ID)
                for place in self._positions:
                    self._positions[place] = max(self._positions[place], end)
            if reply.jobs:
                self._last_queue = reply.jobs[-1].queue

    def forget(self) -> None:
        """Begin again from the front: after an outage, anything may have been restored
        behind the cursors.
        """
        with self._lock:
            self._positions.clear()
            self._swept_at = float("-inf")
