"""By which instant the deadlines of a process's jobs are judged, and what a late one is
charged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pgflow_cli import handlers
from pgflow_cli.handlers import Outcome, outcomes
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.shared_memory import SharedMemory

# Seconds between two looks at deadlines after which the process has stood still: no
# handler could end. Those that are done end within a moment.
STOOD_STILL = 1.0
MOMENT = 0.5
# Seconds in all by which standstills put off a deadline. One that keeps on holding its
# process up, and lets it turn in between, would else never be late.
MOST_PUT_OFF = 60.0


class Deadlines:
    """Knows whether the process has stood still since deadlines were last looked at."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._looked_at = math.inf
        self._stood_since = self._moment_until = 0.0
        self._seen: Sequence[Run] = ()  # running, at the last look

    def look(self, now: float, running: Sequence[Run]) -> float:
        """Return the instant by which deadlines are judged.

        After a standstill that is its beginning, for a moment: whatever held the
        process up, the other handlers may have been done in time. And the clocks of
        those that ran beside each other have stood still meanwhile.
        """
        gap, self._looked_at = now - self._looked_at, now
        if gap > STOOD_STILL:
            if now >= self._moment_until:
                self._stood_since = now - gap
            self._moment_until = now + MOMENT
            if len({*running, *self._seen}) > 1:  # one may stand still by itself
                self._put_off(now, gap, running)
        self._seen = running
        return self._stood_since if now < self._moment_until else now

    def _put_off(self, now: float, gap: float, running: Sequence[Run]) -> None:
        for run in running:
            if not run.started:
                continue
            run.put_off_at = now
            seconds = min(gap, now - run.started, MOST_PUT_OFF - run.stood_still)
            run.stood_still += seconds
            run.held_up += seconds
            self._memory.put_off(run.place, run.deadline)


def late_outcome(
    run: Run, crash_budget: int, *, alone: bool, because: str = ""
) -> Outcome:
    """Return the outcome of a job whose time is over.

    A failure; but if its process has stood still again and again while others ran
    beside it, none of them can be told from the one that did it: then it is lost.
    """
    if run.stood_still < MOST_PUT_OFF or alone:
        return handlers.timed_out(run.handler, run.leased, because=because)
    return outcomes.lost(run.leased, outcomes.HELD_UP, crash_budget=crash_budget)
