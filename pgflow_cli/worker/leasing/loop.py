"""The conversation of a worker process with PostgreSQL: one statement settles what
ended and leases what is free.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from random import uniform
from typing import Any

from pgflow_cli.errors import (
    PASSING,
    REFUSALS,
    Contention,
    OutcomeUnknown,
    PgflowError,
    TooSlow,
    Undecodable,
)
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.telemetry import logs
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.leasing.limited_queues import Limits
from pgflow_cli.worker.leasing.outcomes import PATIENCE, Outcomes

log = logging.getLogger("pgflow.worker")

LINGER = 0.002  # seconds that a first result waits for company
# Looks of an idle worker between two scans. A scan says in the worker's row that it is
# idle; the row may have been removed and written again.
LOOKS = 40
MAX_CONTENTION = 5
SUSPICIOUS = 2  # failures in a row; then outcomes are tried apart


class LeaseLoop(Limits, Outcomes):
    """One connection's turn after turn, in a thread of its own.

    The outcomes of a lease go through the connection that took it: then no statement
    can find the lease gone because another one, sent later, closed it. The first
    connection also polls when there is nothing to do; further ones only help while
    there is more than one can carry.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._failures = 0

    def run(self) -> None:
        """Turn until the process ends."""
        while True:
            self.take_turn()

    def take_turn(self) -> None:
        """Wait for results or for a reason to lease, and send what there is; an outage
        is waited for.
        """
        self._turned_at = monotonic()
        runs = self._gather()
        try:
            self._try_again()
            self._turn(runs)
            self._failures = 0
            self._again = False
        except (*PASSING, *REFUSALS, Contention) as error:
            self._again = self._again or isinstance(error, OutcomeUnknown)
            self._results.extendleft(reversed(runs))
            wary = self._is_wary and isinstance(error, TooSlow)
            self._back_off(error)
            if runs and (wary or self._failures >= SUSPICIOUS):
                self._sift()
            if self._failures >= SUSPICIOUS or isinstance(error, Undecodable):
                self._seek_unreadable()

    # Waiting.

    def _gather(self) -> list[Run]:
        """Wait for results or for a reason to lease; give a first result a moment for
        others to join it.
        """
        if not self._results:
            self._wait(1, self._pause())
        unsettled = self._open.total()
        company = min(unsettled, self._options.batch_size // 2)
        if 0 < len(self._results) < company:
            self._wait(company, LINGER)
        taken = self._results.popleft
        return [taken() for _ in range(len(self._results))]

    def _wait(self, wanted: int, seconds: float) -> None:
        self._wanted = wanted
        if len(self._results) < wanted and seconds > 0:
            self.event.wait(seconds)
        self.event.clear()
        self._wanted = 1

    def _pause(self) -> float:
        if not self._primary:
            return 1.0
        now = monotonic()
        pause = max(0.0, self._next_poll - now)
        for aside in self._aside:
            pause = min(pause, max(0.0, self._due_at(aside) - now))
        look = self._capacity.doubts.pause(now)
        return pause if look is None else min(pause, look)

    def _polls_in_vain(self) -> bool:
        """Say whether there is nothing to lease, after a scan that found nothing.

        Such a worker only looks, which writes nothing and sees what a scan would not;
        it waits for a look that is due sooner than the next poll.
        """
        capacity = self._capacity
        if not self._empty or self._owed or capacity.woken.is_set():
            return False
        types = capacity.leasable_types()
        found = self._look(types, searching=True)
        now = monotonic()
        if found is None:
            self._next_poll = capacity.cursors.next_look(types)
            return self._next_poll <= now + self._options.poll
        self._looks += 1
        if self._looks > LOOKS or any(not first.spent for first in found):
            return False
        self._next_poll = now + self._jitter()
        self._held_back = bool(found)
        # Jobs may be in a batch that this process does not know of, or a limit holds
        # them back: not drained yet.
        unsure = self._held_back or capacity.doubts.pressing(now)
        capacity.idle = capacity.in_flight == 0 and not unsure
        return True

    # Speaking.

    def _turn(self, runs: list[Run]) -> None:
        capacity = self._capacity
        self._clear_doubt()
        self._settle_parents(runs)
        room = self._room(len(runs))
        # Kept free for queues with a limit, if the others left them nothing last time.
        kept = min(room, self._options.concurrency) if self._owed else 0
        if not runs and not room:
            self._next_poll = monotonic() + self._options.poll
            return
        settled = Counter([run.leased.lease_id for run in runs])
        closed = [lease for lease, n in settled.items() if self._open[lease] == n]
        try:
            vain = not runs and self._polls_in_vain()
            patience = PATIENCE if runs and self._is_wary else math.inf
            with self._repository.link.within(patience):
                reply = None if vain else self._exchange(room - kept, runs, closed)
        except PgflowError as error:
            capacity.confirm(room, len(runs), batch=False)
            if not (runs and self._is_refusal(error)):
                raise
            self._settle_singly(runs, error)
            return
        if reply is None:
            capacity.confirm(room, 0, batch=False)
            self._tell_held_back()
            return
        leased = len(reply.jobs)
        batch = leased > 0 or not reply.limited_open
        # Before the confirmation: with nothing in flight the process may end.
        self._count(runs, reply)
        capacity.confirm(room, len(runs), leased=leased, settled=len(runs), batch=batch)
        self._note(runs, reply)
        self._ask_limited(runs, reply, room - kept, kept)

    def _room(self, settling: int) -> int:
        capacity = self._capacity
        batch = self._options.batch_size
        least = 1
        if self._again and settling:
            least = batch + 1  # it may have to wait for a lock: none
        elif not self._primary:
            least = batch // 4 if capacity.more else batch + 1
        return capacity.reserve(settling, at_least=least)

    # Trouble.

    def _back_off(self, error: PgflowError) -> None:
        """Wait with jitter, longer each time: 0.1 s doubling to 1 s, so that little is
        slept through once the database is back. An outage never ends a worker.
        """
        self._failures += 1
        quick = isinstance(error, Contention) and self._failures <= MAX_CONTENTION
        ceiling = 0.05 if quick else min(1.0, 0.1 * 2 ** min(self._failures, 4))
        pause = uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter
        if not quick:
            served = isinstance(error, REFUSALS)
            log.warning(
                "%s, again in %.1f s: %s",
                "nothing is leased" if served else "database unavailable",
                pause,
                error,
                extra=logs.trouble("database_unavailable", error),
            )
        self._capacity.rest(pause)
        self._next_poll = 0.0
