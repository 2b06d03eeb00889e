"""By which instant the deadlines of a process's jobs are judged."""

from __future__ import annotations

import math

# Seconds between two looks at deadlines after which the process has stood still: no
# handler could end. Those that are done end within a moment.
STOOD_STILL = 1.0
MOMENT = 0.5


class Deadlines:
    """Knows whether the process has stood still since deadlines were last looked at."""

    def __init__(self) -> None:
        self._looked_at = math.inf
        self._stood_since = self._moment_until = 0.0

    def judged_at(self, now: float) -> float:
        """Return the instant by which deadlines are judged.

        After a standstill that is its beginning, for a moment: whatever held the
        process up, the other handlers may have been done in time.
        """
        if now >= self._moment_until and now - self._looked_at > STOOD_STILL:
            self._stood_since, self._moment_until = self._looked_at, now + MOMENT
        self._looked_at = now
        return self._stood_since if now < self._moment_until else now
