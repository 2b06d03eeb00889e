"""The conversation of a worker process with PostgreSQL: one statement settles what
ended and leases what is free.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pgflow_cli import counters, handlers, logs
from pgflow_cli.clock import monotonic
from pgflow_cli.errors import (
    PASSING,
    REFUSALS,
    ConfigurationError,
    Contention,
    DatabaseUnavailable,
    OutcomeUnknown,
    PermissionDenied,
    PgflowError,
    Refused,
    StatementFailed,
    TooSlow,
    UsageError,
)
from pgflow_cli.handlers.outcomes import SUCCEEDED, Outcome
from pgflow_cli.models import Cycle as CycleRequest
from pgflow_cli.models import CycleReply, FirstDue, LeasedJob, Scan, Settlement
from pgflow_cli.repository import Repository
from pgflow_cli.running.intake import Intake
from pgflow_cli.running.settlements import settlement_of
from pgflow_cli.running.slots import Run
from pgflow_cli.running.unreadable import Unreadable

log = logging.getLogger("pgflow.worker")

LINGER = 0.002  # seconds that a first result waits for company
# Seconds after which one looks again who found little or nothing: the next results come
# along, and producers commit that did not yet know that this worker is idle.
SOON = 0.01
# Looks of an idle worker between two scans. A scan says in the worker's row that it is
# idle; the row may have been removed and written again.
LOOKS = 40
MAX_CONTENTION = 5
REFUSED = "OUTCOME_REFUSED"
SUSPICIOUS = 2  # failures in a row; then outcomes are tried apart
MOST_TRIES = 5  # of one outcome alone; then it counts as refused
LONGEST_ASIDE = 30.0  # seconds before an outcome set aside is tried again


@dataclass(eq=False, slots=True)
class Aside:
    """A run whose outcome the database does not take, apart from all others."""

    run: Run
    tries: int = 0
    pauses: int = 0
    at: float = 0.0

    def postpone(self) -> float:
        """Return the seconds until the next try: 1, doubling to 30."""
        pause = min(LONGEST_ASIDE, 2.0**self.pauses)
        self.pauses += 1
        self.at = monotonic() + pause
        return pause


class Cycle:
    """One connection's turn after turn, in a thread of its own.

    The outcomes of a lease go through the connection that took it: then no statement
    can find the lease gone because another one, sent later, closed it. The first
    connection also polls when there is nothing to do; further ones only help while
    there is more than one can carry.
    """

    def __init__(
        self,
        intake: Intake,
        repository: Repository,
        *,
        worker_id: str,
        worker_name: str,
        primary: bool,
    ) -> None:
        self.event = threading.Event()
        self._intake, self._repository, self._primary = intake, repository, primary
        self._results: deque[Run] = deque()
        self._wanted = 1
        self._open: Counter[str] = Counter()  # lease id -> jobs not yet settled
        self._again = False  # a reply was lost: its statement may still be at work
        self._next_poll = 0.0
        self._empty = False  # the last scan found nothing
        self._looks = 0  # since then
        self._failures = 0
        self._aside: list[Aside] = []  # runs that the database does not take for now
        # The database's time as a statement last told it, and ours at that moment.
        self._clock = datetime.min, 0.0
        self._owed = False  # queues with a limit had jobs, and there was no room left
        self._last_limited = ""
        self._plan = plan = intake.plan
        self._unreadable = Unreadable(repository, plan)
        self._request = CycleRequest(
            worker_id=worker_id,
            worker_name=worker_name,
            code_version=plan.code_version,
            batch_id="",
            lease_seconds=plan.lease_seconds,
            queues=plan.queues,
            job_types=[],
            room=0,
            scan=Scan(),
            settlements=[],
            closed=[],
        )
        if not primary:
            intake.offer_help(self.event)

    def deliver(self, run: Run) -> None:
        """Take a job that ended, or one given back; from any thread."""
        self._results.append(run)
        if len(self._results) >= self._wanted:
            self.event.set()

    def run(self) -> None:
        """Turn until the process ends."""
        while True:
            self.take_turn()

    def take_turn(self) -> None:
        """Wait for results or for a reason to lease, and send what there is; an outage
        is waited for.
        """
        runs = self._gather()
        try:
            self._try_again()
            self._turn(runs)
            self._failures = 0
            self._again = False
        except (*PASSING, *REFUSALS, Contention) as error:
            self._again = self._again or isinstance(error, OutcomeUnknown)
            self._results.extendleft(reversed(runs))
            self._back_off(error)
            if runs and self._failures >= SUSPICIOUS:
                self._sift()
            if self._failures >= SUSPICIOUS:
                self._seek_unreadable()

    # Waiting.

    def _gather(self) -> list[Run]:
        """Wait for results or for a reason to lease; give a first result a moment for
        others to join it.
        """
        if not self._results:
            self._wait(1, self._pause())
        unsettled = self._open.total()
        company = min(unsettled, self._plan.batch_size // 2)
        if 0 < len(self._results) < company:
            self._wait(company, LINGER)
        return [self._results.popleft() for _ in range(len(self._results))]

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
            pause = min(pause, max(0.0, aside.at - now))
        look = self._intake.doubts.pause(now)
        return pause if look is None else min(pause, look)

    # Speaking.

    def _turn(self, runs: list[Run]) -> None:
        intake = self._intake
        self._clear_doubt()
        self._settle_followers(runs)
        room = self._room(len(runs))
        # Kept free for queues with a limit, if the others left them nothing last time.
        kept = min(room, self._plan.concurrency) if self._owed else 0
        if not runs and not room:
            self._next_poll = monotonic() + self._plan.poll
            return
        settled = Counter(run.leased.lease_id for run in runs)
        closed = [lease for lease, n in settled.items() if self._open[lease] == n]
        leased = 0
        try:
            if not runs and self._polls_in_vain():
                intake.confirm(room, 0, batch=False)
                return
            reply = self._exchange(room - kept, runs, closed)
            leased = len(reply.jobs)
        except PgflowError as error:
            intake.confirm(room, len(runs), batch=False)
            if not (runs and self._is_refusal(error)):
                raise
            self._settle_singly(runs, error)
            return
        batch = leased > 0 or not reply.limited_open
        # Before the confirmation: with nothing in flight the process may end.
        self._count(runs, reply)
        intake.confirm(room, len(runs), leased=leased, settled=len(runs), batch=batch)
        self._note(runs, reply)
        if reply.limited_open or kept:
            # After the settlements: what has ended counts no more.
            self._owed = not self._lease_limited()

    def _room(self, settling: int) -> int:
        intake = self._intake
        batch = self._plan.batch_size
        least = 1
        if self._again and settling:
            least = batch + 1  # it may have to wait for a lock: none
        elif not self._primary:
            least = batch // 4 if intake.more else batch + 1
        return intake.reserve(settling, at_least=least)

    def _exchange(self, room: int, runs: list[Run], closed: list[str]) -> CycleReply:
        intake = self._intake
        types = intake.leasable_types() if room else []
        woken = False
        if room:
            woken = intake.woken.is_set()
            intake.woken.clear()
            self._look(types, searching=False)
        started = intake.cursors.begin(room, types)
        sent = monotonic()
        request = replace(
            self._request,
            batch_id=str(uuid.uuid4()),
            job_types=types,
            room=room,
            scan=started.scan,
            settlements=self._settlements(runs),
            closed=closed,
            again=self._again and bool(runs),
        )
        try:
            reply = self._repository.settle_and_lease(request)
        except DatabaseUnavailable as error:
            if room and isinstance(error, OutcomeUnknown):
                intake.doubts.add(request.batch_id, monotonic())
            intake.cursors.forget()
            raise
        now = monotonic()
        self._clock = counters.moment(reply.scanned_at), now
        if room:
            intake.cursors.end(started, reply)
            self._plan_next(reply, room, now, woken=woken)
        # First: what is taken needs the places of what has left.
        self._leave(runs, closed)
        self._take(reply.jobs, sent, now)
        return reply

    def _look(
        self, types: list[str] | None, *, searching: bool
    ) -> list[FirstDue] | None:
        """Look behind the cursors; return what is due, or None if it is too early."""
        cursors = self._intake.cursors
        started = cursors.begin_look(monotonic(), types, searching=searching)
        if started is None:
            return None
        request = replace(self._request, job_types=types, scan=started.scan)
        try:
            found = self._repository.look_behind(request)
        except DatabaseUnavailable:
            cursors.forget()
            raise
        cursors.end_look(started, found)
        return [first for first in found if first.run_at is not None]

    def _polls_in_vain(self) -> bool:
        """Say whether there is nothing to lease, after a scan that found nothing.

        Such a worker only looks, which writes nothing and sees what a scan would not;
        it waits for a look that is due sooner than the next poll.
        """
        intake = self._intake
        if not self._empty or self._owed or intake.woken.is_set():
            return False
        types = intake.leasable_types()
        found = self._look(types, searching=True)
        now = monotonic()
        if found is None:
            self._next_poll = intake.cursors.next_look(types)
            return self._next_poll <= now + self._plan.poll
        self._looks += 1
        if found or self._looks > LOOKS:
            return False
        self._next_poll = now + self._jitter()
        # Jobs may be in a batch that this process does not know of: not drained yet.
        intake.idle = intake.in_flight == 0 and not intake.doubts.pressing(now)
        return True

    def _lease_limited(self) -> bool:
        """Lease from queues with a limit, in a transaction of its own.

        Returns whether there was room to try. An outage is the next turn's to deal
        with: this one has settled already.
        """
        intake = self._intake
        room = intake.reserve_slots()
        if not room:
            return False
        sent = monotonic()
        request = replace(
            self._request,
            batch_id=str(uuid.uuid4()),
            job_types=intake.leasable_types(),
            room=room,
            scan=Scan(last_queue=self._last_limited),
        )
        jobs: list[LeasedJob] = []
        asked = False
        try:
            jobs = self._repository.lease_limited(request)
            asked = True
        except (*PASSING, *REFUSALS) as error:
            if isinstance(error, OutcomeUnknown):
                intake.doubts.add(request.batch_id, monotonic())
            log.warning(
                "queues with a limit were not leased from: %s",
                error,
                extra=logs.trouble("database_unavailable", error),
            )
            self._seek_unreadable()
        except Contention as error:
            log.info(
                "queues with a limit, again at the next turn: %s",
                error,
                extra=logs.trouble("contention", error),
            )
        finally:
            intake.confirm(room, 0, leased=len(jobs), batch=asked)
        if jobs:
            self._last_limited = jobs[-1].queue
            intake.idle = False
            self._take(jobs, sent, monotonic())
        return True

    def _take(self, jobs: list[LeasedJob], sent: float, now: float) -> None:
        intake = self._intake
        for job in jobs:
            if not self._open[job.lease_id]:
                # Counted from before the statement was sent: never longer than the
                # database counts.
                intake.board.hold(job.lease_id, sent + self._plan.lease_seconds)
            self._open[job.lease_id] += 1
        scanned_at, then = self._clock
        leased_at = scanned_at + timedelta(seconds=now - then)
        intake.counters.count_waits(jobs, leased_at)
        intake.accept(jobs, self.deliver, now)

    def _plan_next(
        self, reply: CycleReply, room: int, now: float, *, woken: bool
    ) -> None:
        """Decide when to look again: at once while there is more; soon for what little
        or nothing was found; at the next poll if that was a look already.
        """
        intake = self._intake
        found = len(reply.jobs)
        again, self._empty, self._looks = self._empty, not found, 0
        intake.more = found == room
        if intake.more or (woken and not found):
            self._next_poll = now
        elif found or not again:
            self._next_poll = now + SOON
        else:
            self._next_poll = now + self._jitter()
        # Jobs that a limit holds back will run: the queue is not drained.
        if found or reply.limited_waiting:
            intake.idle = False

    def _jitter(self) -> float:
        return self._plan.poll * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    # Outcomes.

    def _settlements(self, runs: list[Run]) -> list[Settlement]:
        now = monotonic()
        leases = {run.leased.lease_id for run in runs}
        valid = {lease: self._intake.board.valid_until(lease) for lease in leases}
        return [settlement_of(r, now, valid[r.leased.lease_id]) for r in runs]

    def _settle_followers(self, runs: list[Run]) -> None:
        """Settle the jobs that enqueued others, each with its own in one commit.

        One whose followers are refused becomes a failure. The turn says `left` of the
        others, never that they succeeded: a failover that loses this commit would take
        that without their followers. They are kept until the turn is confirmed, and
        until then each further try sends them again.
        """
        plan = self._plan
        request = replace(self._request, again=self._again)
        for run in runs:
            outcome = run.outcome
            if outcome is None or not outcome.followers:
                continue
            run.settled = False
            [settlement] = self._settlements([run])
            if settlement.status != "succeeded":
                continue
            try:
                ids = self._repository.settle_and_enqueue(
                    request,
                    settlement,
                    outcome.followers,
                    max_payload_bytes=plan.max_payload_bytes,
                    max_enqueue_per_minute=plan.max_enqueue_per_minute,
                )
            except (Refused, UsageError) as error:
                run.outcome = handlers.conclude(run.handler, run.leased, error)
            except PgflowError as error:
                if not self._is_refusal(error):
                    raise
                run.outcome = handlers.refused(run.handler, run.leased, error.message)
            else:
                run.settled = ids is not None
                run.stale = ids is None

    def _settle_singly(self, runs: list[Run], error: PgflowError) -> None:
        """Find the outcome that the database does not take, so that it spoils its own
        job and no other. Takes each run out of the list once it is settled.
        """
        log.error(
            "an outcome was not accepted, trying them one by one: %s",
            error,
            extra=logs.trouble("outcome_refused", error),
        )
        while runs:
            self._settle_alone(runs[0])
            del runs[0]

    def _settle_alone(self, run: Run) -> None:
        """Settle a run as it ended; if that is refused, as a failure; if that is, too,
        leave it to a reaper.
        """
        lease_id = run.leased.lease_id
        closed = [lease_id] if self._open[lease_id] == 1 else []
        while True:
            try:
                reply = self._exchange(0, [run], closed)
            except PgflowError as error:
                if not self._is_refusal(error):
                    raise
                if run.refused:
                    # Not even that: its lease runs out when no other job of it is left.
                    self._leave([run], closed)
                    break
                self._retreat(run, error)
            else:
                self._count([run], reply)
                self._note([run], reply)
                break
        self._intake.confirm(0, 0, settled=1)

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

    def _seek_unreadable(self) -> None:
        """Find what leases fail on if nothing else fails: rows that cannot be read."""
        if self._unreadable.is_due() and self._is_served():
            self._unreadable.search(self._intake.leasable_types())

    # Outcomes that look like an outage.

    def _sift(self) -> None:
        """Settle apart what fails together, if the database takes statements.

        A trigger may be slow, deadlock, or raise what an outage raises: then that one
        job waits, and no other with it.
        """
        for run in [self._results.popleft() for _ in range(len(self._results))]:
            if self._is_served():
                self._settle_aside(Aside(run))
            else:
                self._results.append(run)

    def _try_again(self) -> None:
        now = monotonic()
        due = [aside for aside in self._aside if aside.at <= now]
        for aside in due:
            self._aside.remove(aside)
            self._settle_aside(aside)

    def _settle_aside(self, aside: Aside) -> None:
        """Settle a run that has failed with others; keep it aside if it fails again.

        One that is too slow may only wait for a lock, however long; another error is,
        after enough tries, a refusal.
        """
        run = aside.run
        again, self._again = self._again, True  # an earlier try may still be at work
        try:
            self._settle_followers([run])
            self._settle_alone(run)
        except (*PASSING, Contention) as error:
            aside.tries += not isinstance(error, TooSlow)
            if aside.tries >= MOST_TRIES and not run.refused and self._is_served():
                self._retreat(run, error)
                aside.tries = 0
            pause = aside.postpone()
            self._aside.append(aside)
            log.warning(
                "the outcome of job %s is not taken, again in %g s: %s",
                run.leased.job_id,
                pause,
                error,
                extra={
                    **handlers.fields(run.job or run.leased),
                    "event": "outcome_postponed",
                },
            )
        finally:
            self._again = again

    def _retreat(self, run: Run, error: PgflowError) -> None:
        """Make of a refused outcome one that the database may take."""
        outcome = run.outcome
        written = outcome is None or outcome.status == "canceled" or run.settled
        if outcome and not (written or run.stale or outcome.error_code == REFUSED):
            run.outcome = handlers.refused(run.handler, run.leased, error.message)
            return
        run.refused = True
        log.error(
            "the outcome of job %s cannot be recorded, its attempt counts as lost: %s",
            run.leased.job_id,
            error,
            extra={**handlers.fields(run.job or run.leased), "event": "outcome_lost"},
        )

    def _leave(self, runs: list[Run], closed: list[str]) -> None:
        """Let go of what a confirmed statement has settled, and of the leases that have
        no other run.
        """
        self._intake.slots.free(runs)
        self._open.subtract(run.leased.lease_id for run in runs)
        for lease_id in closed:
            del self._open[lease_id]
            self._intake.board.drop(lease_id)

    def _count(self, runs: list[Run], reply: CycleReply) -> None:
        """Count the attempts that this connection has settled.

        Not what was given back unstarted, and not what an operator has canceled: that
        is counted where it is written.
        """
        lost = set(reply.lost)
        self._intake.counters.count_attempts(
            _counted(run, run.outcome)
            for run in runs
            if run.outcome is not None
            and not run.stale
            and not run.refused
            and run.outcome.status != "canceled"
            and run.leased.job_id not in lost
        )

    def _note(self, runs: list[Run], reply: CycleReply) -> None:
        """Write the log lines of what has been settled."""
        lost = set(reply.lost)
        if not self._plan.log_jobs and not lost:
            runs = [r for r in runs if r.outcome is not SUCCEEDED or r.stale]
        for run in runs:
            outcome = run.outcome
            if outcome is None or run.refused:
                continue
            if run.leased.job_id in lost or run.stale:
                log.warning(
                    "outcome of job %s thrown away: its lease is gone",
                    run.leased.job_id,
                    extra={
                        **handlers.fields(run.job or run.leased),
                        "event": "stale_outcome",
                    },
                )
            elif outcome.status != "succeeded" or self._plan.log_jobs:
                took = run.ended - run.started if run.started else 0.0
                handlers.log_outcome(log, run.job or run.leased, outcome, took)

    # Trouble.

    def _clear_doubt(self) -> None:
        """Give back batches whose reply was lost: they may be ours, and none of
        their jobs has started. Their statements may yet commit, so this looks again and
        again.
        """
        now = monotonic()
        batches = self._intake.doubts.due(now)
        if not batches:
            return
        try:
            ended, found = self._repository.give_back_batches(
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
        self._intake.doubts.looked(found, now)

    def _back_off(self, error: PgflowError) -> None:
        """Wait with jitter, longer each time: 0.1 s doubling to 1 s, so that little is
        slept through once the database is back. An outage never ends a worker.
        """
        self._failures += 1
        quick = isinstance(error, Contention) and self._failures <= MAX_CONTENTION
        ceiling = 0.05 if quick else min(1.0, 0.1 * 2 ** min(self._failures, 4))
        pause = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter
        if not quick:
            log.warning(
                "database unavailable, again in %.1f s: %s",
                pause,
                error,
                extra=logs.trouble("database_unavailable", error),
            )
        time.sleep(pause)
        self._next_poll = 0.0


def _counted(run: Run, outcome: Outcome) -> tuple[counters.Attempt, float | None]:
    """Return what a settled job counts as, and how long its attempt took if it ran."""
    ran = outcome.status in counters.TIMED
    attempt = counters.attempt_of(
        run.leased,
        outcome.status,
        outcome.error_code,
        dead=outcome.dlq_reason_code is not None,
    )
    return attempt, run.ended - run.started if ran else None
