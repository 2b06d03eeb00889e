"""Outcomes that need a statement of their own: they have followers, or the database
does not take them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from pgflow_cli import handlers
from pgflow_cli.errors import (
    PASSING,
    Blocked,
    Contention,
    DataDamaged,
    PgflowError,
    Refused,
    TooSlow,
)
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.handlers.outcomes import SUCCEEDED, Outcome
from pgflow_cli.models.jobs import LeaseReply
from pgflow_cli.telemetry import counters, logs
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.leasing.exchange import Exchange

log = logging.getLogger("pgflow.worker")


class Accounts(Exchange):
    """Counts and logs what this connection has settled."""

    def _count(self, runs: list[Run], reply: LeaseReply) -> None:
        """Count the attempts that this connection has settled.

        Not what was given back unstarted, and not what an operator has canceled: that
        is counted where it is written.
        """
        lost = set(reply.lost)
        self._capacity.counters.count_attempts(
            [
                _counted(run, run.outcome)
                for run in runs
                if run.outcome is not None
                and not run.stale
                and not run.refused
                and run.outcome.status != "canceled"
                and run.leased.job_id not in lost
            ]
        )

    def _note(self, runs: list[Run], reply: LeaseReply) -> None:
        """Write the log lines of what has been settled."""
        lost = set(reply.lost)
        if not self._options.log_jobs and not lost:
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
            elif outcome.status != "succeeded" or self._options.log_jobs:
                took = run.ended - run.started if run.started else 0.0
                handlers.log_outcome(log, run.job or run.leased, outcome, took)


def _counted(run: Run, outcome: Outcome) -> tuple[counters.Attempt, float | None]:
    """Return the counter of a settled job, and how long its attempt took if it ran."""
    if outcome is SUCCEEDED:  # nearly all
        leased = run.leased
        again = leased.attempt_no > 1
        counted = leased.queue, leased.job_type, "succeeded", "", again
        return counted, run.ended - run.started
    ran = outcome.status in counters.TIMED
    attempt = counters.attempt_of(
        run.leased,
        outcome.status,
        outcome.error_code,
        dead=outcome.dlq_reason_code is not None,
    )
    return attempt, run.ended - run.started if ran else None


def _waits_for_repair(run: Run, error: PgflowError) -> bool:
    """Say whether the page is damaged to which successes are written: it is no fault of
    the job, and each run more would do its work once more.
    """
    outcome = run.outcome
    done = outcome is not None and outcome.status == "succeeded"
    return done and isinstance(error, DataDamaged)


REFUSED = "OUTCOME_REFUSED"
MOST_TRIES = 5  # of one outcome alone; then it counts as refused
LONGEST_ASIDE = 30.0  # seconds before an outcome set aside is tried again
# Seconds that an outcome may meet a lock, at least; then it counts as refused.
LONGEST_SLOW = 600.0
# What is due is leased between two rounds, however long each outcome takes.
ROUND = 0.25  # seconds for outcomes set aside, before each turn
PATIENCE = 1.0  # seconds for the first try of one; doubled with each
REST = 4  # times as long as the last one that failed took, before the next is tried
WARY = 60.0  # seconds after a slow outcome in which the next is looked for at once


@dataclass(eq=False, slots=True)
class Aside:
    """A run whose outcome the database does not take, apart from all others."""

    run: Run
    tries: int = 0
    slow: int = 0  # tries that may only have waited for a lock
    slow_since: float = 0.0
    pauses: int = 0
    at: float = 0.0

    @property
    def patience(self) -> float:
        """Seconds that each statement of the next try may take."""
        return PATIENCE * 2.0 ** min(self.pauses, 10)

    def count(self, error: PgflowError) -> None:
        """Count a try that failed while the database took other statements."""
        if isinstance(error, DataDamaged):
            return  # a page is mended by an operator, however long that takes
        if not isinstance(error, (TooSlow, Blocked)):
            self.tries += 1
            return
        self.slow += 1
        self.slow_since = self.slow_since or monotonic()

    def is_refused(self) -> bool:
        """Say whether it has failed often enough to count as refused.

        A lock is held for as long as another transaction is open, and that is
        innocent: it takes `LONGEST_SLOW`, too. Once those have passed, tries suffice.
        """
        patient = monotonic() - self.slow_since < LONGEST_SLOW
        return self.tries >= MOST_TRIES or (self.slow >= MOST_TRIES and not patient)

    def start_over(self) -> None:
        """Begin to count the tries of another outcome."""
        self.tries = self.slow = 0

    def postpone(self) -> float:
        """Return the seconds until the next try: 1, doubling to 30."""
        pause = min(LONGEST_ASIDE, 2.0**self.pauses)
        self.pauses += 1
        self.at = monotonic() + pause
        return pause


@dataclass(eq=False, slots=True)
class Forsaken:
    """A run of which the database takes nothing: a reaper ends its attempt."""

    run: Run
    until: float  # by then one has come


class Outcomes(Accounts):
    """Settles outcomes one by one, so that none spoils another job."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._aside: list[Aside] = []  # runs that the database does not take for now
        self._rested_at = 0.0  # when one that has failed before may be tried again
        self._wary_until = 0.0
        self._forsaken: list[Forsaken] = []

    @property
    def _is_wary(self) -> bool:
        """Whether an outcome has been slow lately."""
        return monotonic() < self._wary_until

    def _settle_parents(self, runs: list[Run]) -> None:
        """Settle the jobs that enqueued others, before the turn settles all of `runs`.

        One that meets a lock is set aside, and those behind it wait for the next turn.
        Takes both out of the list.
        """
        parents = [run for run in runs if run.outcome and run.outcome.followers]
        for number, run in enumerate(parents):
            try:
                with self._repository.link.within(PATIENCE):
                    self._settle_followers([run])
            except (TooSlow, Blocked) as error:
                if not self._is_served():
                    raise
                later = parents[number + 1 :]
                for each in (run, *later):
                    runs.remove(each)
                self._results.extendleft(reversed(later))
                self._keep_aside(Aside(run), error)
                return

    def _settle_followers(self, runs: list[Run]) -> None:
        """Settle the jobs that enqueued others, each with its own in one commit.

        One whose followers are refused becomes a failure. The turn says `left` of the
        others, never that they succeeded: a failover that loses this commit would take
        that without their followers. They are kept until the turn is confirmed, and
        until then each further try sends them again.
        """
        options = self._options
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
                ids = self._repository.leases.settle_and_enqueue(
                    request,
                    settlement,
                    outcome.followers,
                    max_payload_bytes=options.max_payload_bytes,
                    max_enqueue_per_minute=options.max_enqueue_per_minute,
                )
            except Refused as error:  # the gate has a code for it
                run.outcome = handlers.conclude(run.handler, run.leased, error)
            except PgflowError as error:
                if not self._is_refusal(error) or isinstance(error, DataDamaged):
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
                if not self._is_refusal(error) or _waits_for_repair(run, error):
                    raise
                if run.refused:
                    self._forsake(run)
                    return
                self._retreat(run, error)
            else:
                self._count([run], reply)
                self._note([run], reply)
                break
        self._capacity.confirm(0, 0, settled=1)

    # Outcomes that look like an outage.

    def _sift(self) -> None:
        """Set apart what fails together, if the database takes statements.

        A trigger may be slow, deadlock, or raise what an outage raises: then that one
        job waits, and no other with it.
        """
        if self._is_served():
            taken = [self._results.popleft() for _ in range(len(self._results))]
            self._aside += [Aside(run) for run in taken]

    def _forsake(self, run: Run) -> None:
        """Leave a run to its lease, which runs out when no other job of it is left.

        In shared memory it stays a run that has started, until a reaper has come: if
        the process died before, the attempt would count as one that never began, and
        its number would be used again.
        """
        lease_id = run.leased.lease_id
        closed = [lease_id] if self._open[lease_id] == 1 else []
        self._forsaken.append(Forsaken(run, monotonic() + self._reaped_within()))
        self._let_go([run], closed)

    def _free_forsaken(self) -> None:
        """Free the places of runs that a reaper has ended. A process that ends waits
        for none: its burial finds them there.
        """
        now, capacity = monotonic(), self._capacity
        for each in [*self._forsaken]:
            if capacity.ending or capacity.has_batch:
                capacity.confirm(0, 0, settled=1)
            elif self._open[each.run.leased.lease_id]:
                each.until = now + self._reaped_within()
                continue
            elif now >= each.until:
                capacity.slots.free([each.run])
                capacity.confirm(0, 0, settled=1)
            else:
                continue
            self._forsaken.remove(each)

    def _reaped_within(self) -> float:
        """Return in how many seconds a lease that is let go now has been reaped."""
        return 2 * self._options.lease_seconds + self._options.reap_interval

    def _try_again(self) -> None:
        """Settle outcomes that were set aside, until one fails or the round is over."""
        self._free_forsaken()
        over = monotonic() + ROUND
        for aside in self._due_asides():
            begun = monotonic()
            self._aside.remove(aside)
            if not self._settle_aside(aside):
                now = monotonic()
                self._rested_at = now + REST * (now - begun)
                return
            if monotonic() > over:
                return

    def _due_asides(self) -> list[Aside]:
        """Return those to be tried now, first those that have never failed alone."""
        now = monotonic()
        due = [aside for aside in self._aside if self._due_at(aside) <= now]
        return sorted(due, key=lambda aside: (aside.pauses, aside.at))

    def _due_at(self, aside: Aside) -> float:
        return max(aside.at, self._rested_at) if aside.pauses else aside.at

    def _settle_aside(self, aside: Aside) -> bool:
        """Settle a run that has failed with others; keep it aside if it fails again.

        Returns whether it is settled.
        """
        again, self._again = self._again, True  # an earlier try may still be at work
        try:
            with self._repository.link.within(aside.patience):
                self._settle_followers([aside.run])
                self._settle_alone(aside.run)
        except (*PASSING, Contention, DataDamaged) as error:
            self._keep_aside(aside, error)
            return False
        finally:
            self._again = again
        return True

    def _keep_aside(self, aside: Aside, error: PgflowError) -> None:
        """Try a run again later that has failed alone.

        One that has failed often enough while the database took other statements counts
        as refused; see `Aside`.
        """
        run = aside.run
        if self._is_served():
            aside.count(error)
            if isinstance(error, (TooSlow, Blocked)):
                self._wary_until = monotonic() + WARY
        else:
            aside.pauses = 0  # an outage is no fault of it
        if aside.is_refused():
            if run.refused:
                self._forsake(run)
                return
            self._retreat(run, error)
            aside.start_over()
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
