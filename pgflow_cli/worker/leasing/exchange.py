"""One connection's statement: it settles what ended and leases what is free."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from random import uniform
from uuid import uuid4

from pgflow_cli.errors import (
    PASSING,
    REFUSALS,
    ConfigurationError,
    Contention,
    DatabaseUnavailable,
    OutcomeUnknown,
    PermissionDenied,
    PgflowError,
    StatementFailed,
    Undecodable,
)
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.models.jobs import (
    FirstDue,
    LeasedJob,
    LeaseReply,
    LeaseRequest,
    Scan,
    Settlement,
)
from pgflow_cli.repository import Repository
from pgflow_cli.telemetry import counters
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.leasing.capacity import Capacity
from pgflow_cli.worker.leasing.settlement import settlement_of
from pgflow_cli.worker.leasing.unreadable_jobs import Unreadable

log = logging.getLogger("pgflow.worker")

# Seconds after which one looks again who found little or nothing: the next results come
# along, and producers commit that did not yet know that this worker is idle.
SOON = 0.01


class Exchange:
    """What one connection knows of its leases, and the statements that change them."""

    def __init__(
        self,
        capacity: Capacity,
        repository: Repository,
        *,
        worker_id: str,
        worker_name: str,
        primary: bool,
    ) -> None:
        self.event = threading.Event()
        self._capacity, self._repository, self._primary = capacity, repository, primary
        self._results: deque[Run] = deque()
        self._wanted = 1
        self._open: Counter[str] = Counter()  # lease id -> jobs not yet settled
        self._turned_at = monotonic()
        self._again = False  # a reply was lost: its statement may still be at work
        self._next_poll = 0.0
        self._empty = False  # the last scan found nothing
        self._looks = 0  # since then
        # The database's time as a statement last told it, and ours at that moment.
        self._clock = datetime.min, 0.0
        self._options = options = capacity.options
        self._unreadable = Unreadable(repository, options)
        self._request = LeaseRequest(
            worker_id=worker_id,
            worker_name=worker_name,
            code_version=options.code_version,
            batch_id="",
            lease_seconds=options.lease_seconds,
            queues=options.queues,
            job_types=[],
            room=0,
            scan=Scan(),
            settlements=[],
            closed=[],
        )
        if not primary:
            capacity.offer_help(self.event)

    def turned_at(self) -> float:
        """Return when its loop last turned, or began a statement."""
        return max(self._turned_at, self._repository.link.called_at)

    def deliver(self, run: Run) -> None:
        """Take a job that ended, or one given back; from any thread."""
        self._results.append(run)
        # Set already, it will be seen: what clears it looks at the results next.
        if len(self._results) >= self._wanted and not self.event.is_set():
            self.event.set()

    def _exchange(self, room: int, runs: list[Run], closed: list[str]) -> LeaseReply:
        capacity = self._capacity
        types = capacity.leasable_types() if room else []
        woken = False
        if room:
            woken = capacity.woken.is_set()
            capacity.woken.clear()
            if not woken:
                self._look(types, searching=False)
        started = capacity.cursors.begin(room, types)
        sent = monotonic()
        request = replace(
            self._request,
            batch_id=str(uuid4()),
            job_types=types,
            room=room,
            scan=started.scan,
            settlements=self._settlements(runs),
            closed=closed,
            again=self._again and bool(runs),
        )
        try:
            reply = self._repository.leases.settle_and_lease(request)
        except DatabaseUnavailable as error:
            if room and isinstance(error, OutcomeUnknown):
                capacity.doubts.add(request.batch_id, monotonic())
            if isinstance(error, Undecodable):
                self._unreadable.expect()
            capacity.cursors.forget()
            raise
        capacity.memory.reach()
        now = monotonic()
        self._clock = counters.moment(reply.scanned_at), now
        if room:
            capacity.cursors.end(started, reply)
            self._plan_next(reply, room, now, woken=woken)
        # First: what is taken needs the places of what has left.
        self._leave(runs, closed)
        self._take(reply.jobs, sent, now)
        if woken:
            self._look_afterwards(types)
        return reply

    def _look_afterwards(self, types: list[str] | None) -> None:
        """Look behind the cursors once what a wake-up was for is leased: an idle worker
        begins that job a round trip sooner. An outage is the next turn's to tell.
        """
        with suppress(*PASSING, *REFUSALS, Contention):
            if self._look(types, searching=False):
                self._next_poll = 0.0

    def _look(
        self, types: list[str] | None, *, searching: bool
    ) -> list[FirstDue] | None:
        """Look behind the cursors; return the due entries, or None if it is too
        early.
        """
        cursors = self._capacity.cursors
        started = cursors.begin_look(monotonic(), types, searching=searching)
        if started is None:
            return None
        request = replace(self._request, job_types=types, scan=started.scan)
        try:
            found = self._repository.leases.look_behind(request)
        except DatabaseUnavailable:
            cursors.forget()
            raise
        self._capacity.memory.reach()
        cursors.end_look(started, found)
        if any(first.spent is False for first in found):
            self._capacity.gates.open()
        return [first for first in found if first.run_at is not None]

    def _take(self, jobs: list[LeasedJob], sent: float, now: float) -> None:
        capacity = self._capacity
        taken = Counter([job.lease_id for job in jobs])
        for lease_id in taken:
            if not self._open[lease_id]:
                # Counted from before the statement was sent: never longer than the
                # database counts.
                capacity.memory.hold(lease_id, sent + self._options.lease_seconds)
        self._open.update(taken)
        scanned_at, then = self._clock
        leased_at = scanned_at + timedelta(seconds=now - then)
        capacity.counters.count_waits(jobs, leased_at)
        capacity.accept(jobs, self.deliver, now)

    def _leave(self, runs: list[Run], closed: list[str]) -> None:
        """Let go of what a confirmed statement has settled, and of the leases that have
        no other run.
        """
        self._capacity.slots.free(runs)
        self._let_go(runs, closed)

    def _let_go(self, runs: list[Run], closed: list[str]) -> None:
        """Hold these runs no more; no heartbeat renews a lease that is closed."""
        self._open.subtract([run.leased.lease_id for run in runs])
        for lease_id in closed:
            del self._open[lease_id]
            self._capacity.memory.drop(lease_id)

    def _plan_next(
        self, reply: LeaseReply, room: int, now: float, *, woken: bool
    ) -> None:
        """Decide when to look again: at once while there is more; soon for what little
        or nothing was found; at the next poll if that was a look already.
        """
        capacity = self._capacity
        found = len(reply.jobs)
        again, self._empty, self._looks = self._empty, not found, 0
        capacity.more = found == room
        if capacity.more or (woken and not found):
            self._next_poll = now
        elif found or not again:
            self._next_poll = now + SOON
        else:
            self._next_poll = now + self._jitter()
        # Jobs that a limit holds back will run: the queue is not drained.
        if found or reply.limited_waiting:
            capacity.idle = False

    def _jitter(self) -> float:
        return self._options.poll * uniform(0.8, 1.2)  # noqa: S311 - no secret

    def _settlements(self, runs: list[Run]) -> list[Settlement]:
        now = monotonic()
        leases = {run.leased.lease_id for run in runs}
        valid = {lease: self._capacity.memory.valid_until(lease) for lease in leases}
        return [settlement_of(r, now, valid[r.leased.lease_id]) for r in runs]

    def _is_refusal(self, error: PgflowError) -> bool:
        """Say whether the database refuses what it was told, and not this worker.

        A trigger may lack a grant or a table of its own: then the same statement passes
        without any outcome.
        """
        if not isinstance(error, (PermissionDenied, ConfigurationError)):
            return isinstance(error, REFUSALS)
        return self._is_served()

    def _is_served(self) -> bool:
        try:
            self._exchange(0, [], [])
        except PgflowError:
            return False
        return True

    def _clear_doubt(self) -> None:
        """Give back batches whose reply was lost: they may be ours, and none of
        their jobs has started. Their statements may yet commit, so this looks again and
        again.
        """
        now = monotonic()
        batches = self._capacity.doubts.due(now)
        if not batches:
            return
        try:
            ended, found = self._repository.unsettled_leases.give_back_batches(
                self._request.worker_id, batches
            )
        except StatementFailed as error:
            log.error(  # noqa: TRY400 - the sentence is all there is to know
                "jobs leased without our knowledge cannot be given back, their leases"
                " run out: %s",
                error,
                extra={"event": "leases_left"},
            )
            found = set(batches)
        else:
            if ended:
                log.info(
                    "%d jobs were leased though the reply was lost: given back",
                    len(ended),
                    extra={"event": "batch_given_back", "count": len(ended)},
                )
        self._capacity.doubts.looked(found, now)

    def _seek_unreadable(self) -> None:
        """Find what leases fail on if nothing else fails: rows that cannot be read."""
        if self._unreadable.is_due() and self._is_served():
            # One that can be leased and not decoded is in a lease now, and searched are
            # the jobs that wait. An outage is the search's to tell.
            with suppress(*PASSING, *REFUSALS, Contention):
                self._clear_doubt()
            self._unreadable.search(self._capacity.leasable_types())
