"""By which instant deadlines are judged; what a broken event loop costs its jobs."""

from __future__ import annotations

import math

from pgflow_cli.handlers import Outcome, error_codes, outcomes
from pgflow_cli.worker.execution.run import Run

# Seconds between two looks at deadlines after which the process has stood still: no
# handler could end. Those that are done end within a moment.
STOOD_STILL = 1.0
MOMENT = 0.5
BROKEN = "the event loop of its process broke: by this job's doing, or another's in it"


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


def broken_loop(run: Run, crash_budget: int, *, alone: bool) -> Outcome:
    """Return the outcome of a coroutine whose loop has broken: a failure if it was
    `alone` there; else any of them may have done it, and each is lost.
    """
    if alone:
        return outcomes.failed(run.handler, run.leased, error_codes.UNKNOWN, BROKEN)
    return outcomes.lost(run.leased, BROKEN, crash_budget=crash_budget)
