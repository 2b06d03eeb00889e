"""Suspects: jobs that one more loss of their process condemns, and for a wary process
those that were lost once. They run apart, in a spare process, so that neither their
crash nor their hanging costs a neighbour anything.

How a suspect gets there. The process that leased it does not start it, and asks its
supervisor; the supervisor starts a spare process, which takes the job over: one
transaction moves its entry, with its attempt's number, out of the lease of the one that
asked into a lease of its own (`take_over_job`). Then the supervisor answers, and the
process that asked gives the job back like any that has not started; so it does, too,
when no spare process can be had, when it ends, or when an operator cancels the job.

Why nothing is lost or runs twice. At every instant one lease or the queue has the job:
the transaction moves it between leases, a settlement moves it from the lease of the one
that asked to the queue, both under the lock of that lease's row. Whichever comes second
finds no entry, and does nothing: what was taken over is not given back, what was given
back is not taken over. Only the spare process ever starts the job, and only after its
transaction. If that one's reply is lost, the job is given back as a batch is whose
reply was lost. If a process dies, its supervisor ends the leases that are in its name,
and the job is in one of one of them; if the supervisor dies, they run out.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from random import uniform
from typing import Generic, Protocol, TypeVar

from pgflow_cli.formats.clock import monotonic
from pgflow_cli.models.jobs import Suspect
from pgflow_cli.worker.execution.run import Run

log = logging.getLogger("pgflow.supervisor")

# Seconds before a suspect that found no spare process free may be leased again: others
# would lease it at once, and find none either. Short: most suspects are innocent.
PUT_OFF = 1.0
# Seconds after that in which each worker that may lease it has seen it.
SEEN = 2.0
# Seconds in which a spare process starts and takes its job over; then it is frozen, or
# the import of the handlers hangs, and with it all suspects would wait.
START = 60.0


@dataclass
class Suspects:
    """What a process has leased and does not run itself.

    It asks for one at a time, and keeps the others only if `keeps`: they come of the
    one batch of --once. Otherwise they are given back, for others to run, and because
    whether it had started is unknown of what a killed supervisor had leased.
    """

    keeps: bool
    put_off_until: float = 0.0  # when those that were put off are leased again
    _runs: deque[Run] = field(default_factory=deque)
    _asking: Run | None = None
    _number: int = 0

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, runs: Collection[Run]) -> None:
        """Hold jobs just leased."""
        self._runs.extend(runs)

    def remove(self, job_ids: Collection[str]) -> list[Run]:
        """Take out those of some jobs, whatever was asked for them."""
        chosen = [run for run in self._runs if run.leased.job_id in job_ids]
        for run in chosen:
            self._runs.remove(run)
        return chosen

    def clear(self) -> list[Run]:
        """Take out all of them: the process ends."""
        runs = [*self._runs]
        self._runs.clear()
        return runs

    def attend(self, number: int, *, taken: bool) -> tuple[Run | None, list[Run]]:
        """Return the one that was taken over and those to put off, by the supervisor's
        last answer.
        """
        done, refused = None, []
        if self._asking is not None and number == self._number:
            if self._asking in self._runs:
                self._runs.remove(self._asking)
                done = self._asking if taken else None
                refused = [] if taken else [self._asking]
            self._asking = None
        if not self.keeps:
            refused += [run for run in self._runs if run is not self._next()]
            self._runs = deque(run for run in self._runs if run is self._next())
        for run in refused:
            run.put_off = PUT_OFF * uniform(0.5, 1)  # noqa: S311 - jitter
        if refused:
            self.put_off_until = monotonic() + PUT_OFF + SEEN
        return done, refused

    def question(self, worker_id: str) -> tuple[int, Suspect] | None:
        """Return the question for the supervisor, with its number, if there is one."""
        if self._asking is not None or not self._runs:
            return None
        self._asking = self._runs[0]
        self._number += 1
        leased = self._asking.leased
        return self._number, Suspect(
            worker_id, leased.lease_id, leased.job_id, leased.rank, leased.run_at
        )

    def _next(self) -> Run | None:
        """Return the one that is asked for, or will be."""
        return self._asking or (self._runs[0] if self._runs else None)


class Process(Protocol):
    """A worker process as its supervisor sees it."""

    name: str

    def answer(self, number: int, *, taken: bool) -> None:
        """Answer its question about a suspect."""
        ...

    def kill(self) -> None:
        """Kill it."""
        ...


P = TypeVar("P", bound=Process)


@dataclass
class _Question(Generic[P]):
    asker: P
    number: int
    suspect: Suspect


class SparePlace(Generic[P]):
    """A supervisor's place for its one spare process.

    Each question is answered once, whatever becomes of the spare process. `patient`:
    those that come while it is there wait for it to end; else they are refused, and the
    job is for others.
    """

    def __init__(self, start: Callable[[Suspect], P | None], *, patient: bool) -> None:
        self._start, self._patient = start, patient
        self._waiting: deque[_Question[P]] = deque()
        self._spare: P | None = None
        self._started = 0.0
        self._served: _Question[P] | None = None

    def ask(self, asker: P, number: int, suspect: Suspect) -> None:
        """Take a question of a process."""
        self._waiting.append(_Question(asker, number, suspect))

    def tell(self, spare: P, *, taken: bool) -> None:
        """Pass on whether the spare process has taken over its job."""
        if spare is self._spare:
            self._answer(taken=taken)

    def attend(self, living: Sequence[P], *, ending: bool) -> None:
        """Start a spare process for the first who waits, if none is there."""
        if self._served is not None and monotonic() > self._started + START:
            self._give_up()
        if self._spare is not None and self._spare not in living:
            self._answer(taken=False)  # it has not said so before
            self._spare = None
        while self._waiting:
            question = self._waiting[0]
            if question.asker in living and not ending:
                if self._spare is None:
                    self._begin(question)
                elif self._patient:
                    return
            self._waiting.popleft()
            if question is not self._served:
                question.asker.answer(question.number, taken=False)

    def _begin(self, question: _Question[P]) -> None:
        self._spare, self._started = self._start(question.suspect), monotonic()
        if self._spare is not None:
            self._served = question
            log.info(
                "job %s has been lost with its process before: it runs apart, in %s",
                question.suspect.job_id,
                self._spare.name,
                extra={
                    "event": "spare_started",
                    "worker_id": self._spare.name,
                    "job_id": question.suspect.job_id,
                },
            )

    def _give_up(self) -> None:
        """Kill the spare process, which has not taken its job over."""
        if self._spare is None or self._served is None:
            return
        log.error(
            "%s has not taken job %s over in %.0f s, and is killed: does an import of"
            " the handlers hang?",
            self._spare.name,
            self._served.suspect.job_id,
            START,
            extra={
                "event": "spare_stuck",
                "worker_id": self._spare.name,
                "job_id": self._served.suspect.job_id,
            },
        )
        self._spare.kill()
        self._answer(taken=False)

    def _answer(self, *, taken: bool) -> None:
        served, self._served = self._served, None
        if served is not None:
            served.asker.answer(served.number, taken=taken)
