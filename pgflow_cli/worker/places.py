"""The places of a worker's processes: which are vacant, when the next process may
start in one, and how one that has died or stands still is cleared away.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pgflow_cli.handlers import outcomes
from pgflow_cli.worker import safeguards
from pgflow_cli.worker.background import Upkeep
from pgflow_cli.worker.dead_processes import settling
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.process import (
    FROZEN_AFTER,
    NO_PROGRESS,
    REPLACED,
    STOOD_STILL,
    Child,
    cause,
)
from pgflow_cli.worker.shared_memory import RunningJob

log = logging.getLogger("pgflow.supervisor")

LONG_START = 5.0  # seconds after which operators see that a process still loads
LONGEST_PAUSE = 5.0  # seconds before a process that could not be started is tried again
LONGEST_BACK_OFF = 30.0  # seconds before one that keeps dying is started again
# Seconds after which the death of a process is not one of several in a row.
STEADY = 30.0
# Deaths one after the other, before anything was settled, from which on processes are
# wary. One alone may be the host's fault, and most jobs that are lost with it innocent.
WARY_AFTER = 2
# Seconds past its deadline before a job's process is killed: the process had five.
OUTSIDE_GRACE = 7.0
WITHOUT_WORDS = (
    " (its own lines say why; without any, code of the application has closed its log"
    " and its other descriptors)"
)


@dataclass
class Vacancy:
    """A place without a process that is ready; `deaths`: so many processes of the
    worker have died one after the other, or could not be started. With none, a process
    loads.
    """

    options: WorkerOptions
    number: int
    quiet: bool = False  # what comes next is to lease nothing
    hushed: bool = False  # by a signal, of which its row does not tell yet
    deaths: int = 0
    since: float = field(default_factory=time.monotonic)
    worker_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def make_quiet(self) -> None:
        """Have what comes next lease nothing: a signal said so."""
        self.quiet = self.hushed = True

    def learn(self, row: Mapping[str, object], *, quiet: bool) -> None:
        """Do what its row says now, to which `row` has been sent."""
        if self.hushed and not row["hushed"]:
            return
        self.hushed, self.quiet = False, quiet

    def row(self) -> dict[str, object]:
        """Return its row of the workers table: the process is the supervisor's."""
        return {
            "worker_id": self.worker_id,
            "pid": os.getpid(),
            "slots": 0,
            "busy_slots": 0,
            "lease_seconds": max(1, round(self.options.lease_seconds)),
            "quiet": self.quiet,
            "hushed": self.hushed,
            "retiring": False,
            "spare": False,
            "deaths": self.deaths,
            "name": self.options.name_of(self.number),
            "host": socket.gethostname(),
            "code_version": self.options.code_version,
            "queues": self.options.queues,
        }


class Places:
    """One place for each of `options.processes`; a spare process has none.

    `changed` is called when operators are to see why a place has no process.
    """

    def __init__(self, options: WorkerOptions, changed: Callable[[], None]) -> None:
        self._options, self._changed = options, changed
        self._vacant = {n: Vacancy(options, n) for n in range(options.processes)}
        self._quick_deaths = self._failed_starts = 0
        self._start_again = 0.0

    def may_start(self) -> bool:
        """Say whether the pause since the last death or failure is over."""
        return time.monotonic() >= self._start_again

    def next_options(self) -> WorkerOptions:
        """Return the options of the next process."""
        return replace(self._options, wary=self._quick_deaths >= WARY_AFTER)

    def to_fill(self, children: Sequence[Child]) -> list[int]:
        """Return the numbers of the places in which no process stays."""
        taken = {c.number for c in children if not c.retiring}
        return [n for n in range(self._options.processes) if n not in taken]

    def is_quiet(self, number: int, children: Sequence[Child]) -> bool:
        """Say whether what comes next in a place is to lease nothing."""
        if (vacancy := self._vacant.get(number)) is not None:
            return vacancy.quiet
        # One that retires still stands in its place.
        return any(c.quiet for c in children if c.number == number)

    def without_process(self) -> list[Vacancy]:
        """Return the places whose processes have died or load for long, until one is
        ready.
        """
        before = time.monotonic() - LONG_START
        vacant = [*self._vacant.values()]
        return [each for each in vacant if each.deaths or each.since < before]

    def make_quiet(self) -> None:
        """Have what comes next in vacant places lease nothing: a signal said so."""
        for vacancy in self._vacant.values():
            vacancy.make_quiet()

    # What becomes of processes.

    def started(self) -> None:
        """Take note that a process could be started."""
        self._failed_starts = 0

    def fill(self, child: Child) -> None:
        """Take note that a process is ready."""
        vacancy = self._vacant.pop(child.number, None)
        if vacancy is not None:
            child.make_quiet(
                quiet=vacancy.quiet
            )  # an operator may have said so meanwhile

    def vacate(self, child: Child, others: Sequence[Child]) -> None:
        """Take note that a process is gone; `others` are there."""
        if any(c.number == child.number for c in others):
            return  # it has been replaced already
        if not child.is_spare and child.number not in self._vacant:
            self._vacant[child.number] = Vacancy(
                self._options, child.number, quiet=child.quiet
            )

    def put_off(self, error: OSError, number: int) -> None:
        """Try again soon: what the system lacks now, it may have then."""
        pause = outcomes.doubling(self._failed_starts, longest=LONGEST_PAUSE)
        self._failed_starts += 1
        self._start_again = time.monotonic() + pause
        self._tell_vacant(number, self._failed_starts)
        log.error(
            "cannot start a worker process: %s; again in %g s",
            error.strerror or error,
            pause,
            extra={"event": "process_not_started", "error_class": type(error).__name__},
        )

    def postpone(self, child: Child, *, ending: bool) -> None:
        """Wait 1 s, doubling to 30 s, before a process that keeps dying is started
        again; a spare process never is.
        """
        # A job that kills its process shall not keep away those that get work done.
        steady = time.monotonic() - child.started > STEADY
        if child.ready and (child.memory.has_settled() or steady):
            self._quick_deaths = 0
        if child.is_spare:
            return
        pause = outcomes.doubling(self._quick_deaths, longest=LONGEST_BACK_OFF)
        self._start_again = time.monotonic() + pause
        self._quick_deaths += 1
        self._tell_vacant(child.number, self._quick_deaths)
        if not ending:
            log.info(
                "the next process starts in %g s",
                pause,
                extra={"event": "process_postponed"},
            )

    def _tell_vacant(self, number: int, deaths: int) -> None:
        """Have operators see why a place has no process."""
        if (vacancy := self._vacant.get(number)) is not None:
            vacancy.deaths = deaths
            self._changed()


class Clearance:
    """What a supervisor does with processes that have died, or that stand still."""

    options: WorkerOptions
    _children: list[Child]
    _places: Places
    _upkeep: Upkeep
    _remaining: Any
    _ending_at: float | None
    _released_at: float | None
    _looked_at: float
    _look_again: float

    def _hear(self, child: Child) -> None:
        """Take the messages of a process."""
        raise NotImplementedError

    def _bury(self, child: Child) -> None:
        """Settle what a dead process held, at once; decide when its successor
        starts.
        """
        self._remove(child)
        child.pipe.close()
        code = child.process.exitcode
        if not child.ready and not child.dismissed:
            if self._ending_at is None and child.failure is None:
                _tell_died(child, f"{child.name} ended before it was ready")
            self._places.postpone(child, ending=self._ending_at is not None)
            return
        killed = self._released_at is not None
        if child.done or killed or child.dismissed:
            self._settle_dead(
                child, "released", "the worker was stopped before the job ended"
            )
        else:
            _tell_died(child, f"worker process {child.name} ended")
            self._settle_dead(child, "lost", f"the worker process ended: {cause(code)}")
            self._free_lock()
            self._places.postpone(child, ending=self._ending_at is not None)

    def _free_lock(self) -> None:
        """Free the lock of what is left to lease: a process may have died with it."""
        if self.options.max_jobs is not None:
            lock = self._remaining.get_lock()
            lock.acquire(timeout=1.0)  # the living hold it for microseconds
            with suppress(ValueError):
                lock.release()

    def _remove(self, child: Child) -> None:
        self._children.remove(child)
        self._places.vacate(child, self._children)

    def _settle_dead(
        self,
        child: Child,
        status: str,
        message: str,
        culprit: RunningJob | None = None,
    ) -> None:
        graveyard = self._upkeep.graveyard
        self._upkeep.urgent.put(settling(child, status, message, graveyard, culprit))

    def _look_at_deadlines(self) -> None:
        """Kill a process whose job is past its deadline, is canceled or runs elsewhere,
        and whose own watch could not end it.
        """
        for child in self._children:
            child.give_up_start()
        now = time.monotonic()
        if now - self._looked_at > FROZEN_AFTER:
            # We stood still, and our processes perhaps with us: they may turn again.
            self._look_again = now + OUTSIDE_GRACE
        self._looked_at = now
        for child in list(self._children) if now >= self._look_again else []:
            late, deaf = child.overrun(OUTSIDE_GRACE)
            if not child.process.is_alive():
                continue
            if late or deaf:
                self._kill_held_up(child, late, deaf)
            elif child.is_still():
                self._kill_still(child)

    def _kill_held_up(
        self, child: Child, late: list[RunningJob], deaf: list[RunningJob]
    ) -> None:
        log.error(
            "a handler holds up %s %s: killed",
            child.name,
            "past its deadline"
            if late
            else "though its job was canceled or has lost its lease",
            extra={
                "event": "process_killed",
                "worker_id": child.name,
                "jobs": [run.job_id for run in (*late, *deaf)],
            },
        )
        child.kill()
        culprit = child.culprit(late)
        self._clear_away(child)
        known = culprit is not None or not late
        self._settle_dead(
            child,
            # As with a crash: one that holds it up again runs apart in the end.
            "released" if known else "lost",
            REPLACED if known else STOOD_STILL,
            culprit,
        )

    def _kill_still(self, child: Child) -> None:
        """Replace a process that would lease and settle nothing for ever, though none
        of its jobs is late.
        """
        log.error(
            "%s makes no progress any more: killed",
            child.name,
            extra={"event": "process_killed", "worker_id": child.name},
        )
        child.kill()
        self._clear_away(child)
        self._settle_dead(child, "lost", NO_PROGRESS)
        self._places.postpone(child, ending=self._ending_at is not None)

    def _clear_away(self, child: Child) -> None:
        self._hear(child)
        self._remove(child)
        child.pipe.close()
        self._free_lock()


def _tell_died(child: Child, what: str) -> None:
    code = child.process.exitcode
    log.error(
        "%s: %s%s",
        what,
        cause(code),
        WITHOUT_WORDS if code == safeguards.FAILED else "",
        extra={"event": "process_died", "worker_id": child.name, "exit_code": code},
    )
