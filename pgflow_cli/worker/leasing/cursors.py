"""Where a worker process scans `pending` from.

`pending` is a queue in a B-tree: entries die at the front, and what vacuum has not
removed yet lies exactly where a scan from the front begins. So a process remembers a
cursor for each place (a queue and a rank), and scans from there. It moves with what is
leased, and once a scan finds less than it could take, to `LAG` before that scan: a
transaction commits its jobs with the `run_at` of its beginning.

All the same, due entries appear behind a cursor: of a longer transaction, of a job that
was given back, moved, retried or freed by a rollback, after a clock step, in a queue
that was paused, of a type that was at its own limit. Therefore the process also *looks
behind*: a statement of its own walks each place from the front to the cursor, and the
cursor goes back to the first due entry that it meets.

The promise: once a job is due, committed, unlocked and open to this worker, it lies
ahead of the cursor of every scan that begins `max(INTERVAL, SHARE × the cost of a
look)`, one look and one scan later, or after that. For between two scans there is a
look as soon as one is due (before the scan, or right after one that a wake-up asked
for), and that look sees the job. From then on a scan moves a cursor over an entry
only if it leased it, or another transaction had locked it; and a scan that began before
the look moves no cursor any more. What lies ahead of the cursors is leased in its
order, like any job. A worker that finds nothing looks at each poll.

Looking takes at most one part in `SHARE` of the time, whatever vacuum can or cannot
remove, and what a cursor then walks again at most as much.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgflow_cli.models.jobs import FirstDue, LeaseReply, Place, Position, Scan

_FIRST_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Started:
    """A scan or a look that is under way, for the types that it can see."""

    scan: Scan
    room: int
    era: int
    types: frozenset[str] | None


class Cursors:
    """Cursors of one process, shared by its connections."""

    INTERVAL = 0.25
    SHARE = 20
    LAG = 0.1

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._positions: dict[Place, Position] = {}
        self._last_queue = ""
        self._looked_at = float("-inf")
        # Seconds that the newest looks took. The least of them counts: a neighbour may
        # hold up any one of them, dead entries hold up all.
        self._costs: deque[float] = deque(maxlen=3)
        # Looks so far: what began before one of them moves no cursor after it.
        self._era = 0
        # What every scan since the last look could lease; None: anything.
        self._types: frozenset[str] | None = None

    # Scans.

    def begin(self, room: int, types: Collection[str] | None) -> Started:
        """Return where the next scan begins; one without room sees nothing."""
        with self._lock:
            known = None if types is None else frozenset(types)
            if room and known is not None:
                self._types = known if self._types is None else self._types & known
            scan = Scan(dict(self._positions), self._last_queue)
            return Started(scan, room, self._era, known)

    def end(self, started: Started, reply: LeaseReply) -> None:
        """Learn from what a scan returned."""
        if not started.room:
            return
        with self._lock:
            if reply.jobs:
                self._last_queue = reply.jobs[-1].queue
            if started.era != self._era:
                return
            limit = self._limit(reply.scanned_at)
            if len(reply.jobs) < started.room:
                self._positions = dict.fromkeys(self._positions, limit)
            # Of each place the last: it stands behind the others.
            taken = {(j.queue, j.rank): (j.run_at, j.job_id) for j in reply.jobs}
            for place, position in taken.items():
                known = self._positions.get(place, position)
                self._positions[place] = min(max(position, known), limit)

    # Looks.

    def begin_look(
        self, now: float, types: Collection[str] | None, *, searching: bool
    ) -> Started | None:
        """Begin a look behind the cursors; None while it is too early.

        `searching`: the last scan found nothing. Then as soon as the cost allows it,
        and for anything due; so, too, when a type can be leased that scans since the
        last look passed over.
        """
        with self._lock:
            if now < self._look_at(types, searching=searching):
                return None
            self._looked_at = now  # only one connection looks at a time
            known = None if types is None else frozenset(types)
            scan = Scan({} if searching else dict(self._positions))
            return Started(scan, 0, self._era, known)

    def end_look(self, started: Started, found: Sequence[FirstDue]) -> None:
        """Set the cursors back to what was found; a place without one gets one."""
        with self._lock:
            self._costs.append(max((first.took for first in found), default=0.0))
            if started.era != self._era:
                return  # another look has ended, or all is forgotten
            self._era += 1
            self._types = started.types
            positions = {}
            for first in found:
                place = first.queue, first.rank
                position = self._limit(first.looked_at)
                if place in self._positions:
                    position = min(position, self._positions[place])
                if first.run_at is not None:
                    position = min(position, (first.run_at, _FIRST_ID))
                positions[place] = position
            self._positions = positions

    def next_look(self, types: Collection[str] | None) -> float:
        """Return when one who finds nothing may look, in the monotonic clock."""
        with self._lock:
            return self._look_at(types, searching=True)

    def forget(self) -> None:
        """Begin again from the front: after an outage, anything may have been restored
        behind the cursors.
        """
        with self._lock:
            self._positions.clear()
            self._types = None
            self._looked_at = float("-inf")
            self._era += 1

    # Under the lock.

    def _look_at(self, types: Collection[str] | None, *, searching: bool) -> float:
        passed = self._types is not None and (
            types is None or not self._types.issuperset(types)
        )
        least = 0.0 if searching or passed else self.INTERVAL
        cost = min(self._costs, default=0.0)
        return self._looked_at + max(least, self.SHARE * cost)

    def _limit(self, at: str) -> Position:
        before = datetime.fromisoformat(at) - timedelta(seconds=self.LAG)
        return before.strftime("%Y-%m-%d %H:%M:%S.%f"), _FIRST_ID
