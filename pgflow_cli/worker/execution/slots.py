"""Runs jobs: threads for plain functions and executables, one event loop for async
handlers.

Nothing here knows the database. A job comes in as a `Run` and goes out, once, through
its `deliver`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from pgflow_cli import handlers
from pgflow_cli.formats.clock import monotonic, thread_time
from pgflow_cli.handlers import Outcome, outcomes
from pgflow_cli.telemetry import logs, spans
from pgflow_cli.worker.execution import type_limits
from pgflow_cli.worker.execution.attempts import Attempts
from pgflow_cli.worker.execution.deadlines import Deadlines, late_outcome
from pgflow_cli.worker.execution.event_loop import SharedLoop
from pgflow_cli.worker.execution.pace import Pace
from pgflow_cli.worker.execution.run import Run, Waiting, _end_span
from pgflow_cli.worker.execution.threads import OwnThread
from pgflow_cli.worker.shared_memory import SharedMemory

log = logging.getLogger("pgflow.worker")

WATCH = 0.002  # seconds between two looks at whether the one thread is held up
GRACE = 5.0  # seconds between asking a handler to stop and giving up on it
# Seconds without new jobs after the system has refused a thread; what has waited for
# one is given back meanwhile.
SHORTAGE = 2.0
BLOCKED = ": the handler blocked the event loop that it shares with other jobs"


class Slots:
    """At most `concurrency` jobs at once, whatever runs them.

    `stuck` counts threads that neither a timeout nor a cancellation could stop: each of
    them is lost until the process is replaced.
    """

    def __init__(
        self,
        concurrency: int,
        memory: SharedMemory,
        enqueue_now: Callable[[list[dict[str, object]]], list[str]],
        *,
        crash_budget: int = 3,
        exec_environment: Mapping[str, str] | None = None,
        tracing: spans.Consumer | None = None,
    ) -> None:
        self.concurrency = concurrency
        self._crash_budget = crash_budget
        self.stuck = 0
        self._memory = memory
        self._attempts = Attempts(
            memory, enqueue_now, exec_environment=exec_environment, tracing=tracing
        )
        self._waiting = Waiting()
        self._running: set[Run] = set()
        self._limited = False
        self._places = list(range(memory.runs))
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        # The thread that watches waits apart: what calls a sleeper must not wake it.
        self._watch = threading.Condition(lock)
        self._threads = 0
        self._sleeping = 0
        self._called = 0  # of the sleeping ones, those that are about to wake
        self._active = 0
        self._taken = 0
        self._watched = False
        self._stopping = False
        self._loop: SharedLoop | None = None
        self._pumping = False  # `_pump` is on its way
        self._blocker: Run | None = None  # of the event loop
        self._pace = Pace()
        self._crowded = False
        self._short_until = 0.0
        self._deadlines = Deadlines(memory)

    # What the lease loop asks.

    @property
    def busy(self) -> int:
        return len(self._running)

    def is_full(self) -> bool:
        """Say whether no slot is free, or none for some type."""
        return self.busy + self.stuck >= self.concurrency or bool(self.full_types())

    def is_short(self) -> bool:
        """Say whether the system has just refused a thread that jobs need."""
        return monotonic() < self._short_until

    def prefetch(self, horizon: float, most: int) -> int:
        """Return how many jobs beyond the free slots these slots would begin within
        `horizon` seconds.

        A job that waits in memory is one that no other process can run: slow handlers
        prefetch nothing.
        """
        if self._crowded:
            return 0
        each = self._pace.look()
        if each is None:
            return self.concurrency
        return min(most, int(self.concurrency * horizon / each))

    def full_types(self) -> set[str]:
        """Return the job types that are at their own limit, or wait for it: no more of
        them now.
        """
        if not self._limited:
            return set()
        with self._changed:
            return type_limits.full([*self._running, *self._waiting])

    def submit(self, runs: Sequence[Run]) -> None:
        """Queue jobs; they start as slots become free, in this order."""
        with self._changed:
            # First: see `_runs_alone`.
            if any(run.handler.concurrency is not None for run in runs):
                self._limited = True
            self._waiting.add(runs)
            self._wake()

    def give_back(self, *, waiting_since: float | None = None) -> list[Run]:
        """Take out jobs that have not started: all, or those taken before an instant
        while every slot is busy.
        """
        with self._changed:
            starting = self._free() > 0 and not (self._limited or self.is_short())
            if waiting_since is not None and starting:
                return []
            chosen = [
                run
                for run in self._waiting
                if (waiting_since is None or run.taken <= waiting_since)
                and self._waiting.remove(run)
            ]
            # Jobs that waited in vain would only wait again, until a job ends.
            self._crowded = self._crowded or bool(waiting_since and chosen)
            return chosen

    def stop_late(self, now: float) -> None:
        """End what has passed its deadline; cancel what has lost its lease."""
        running = list(self._running)
        judged = self._deadlines.look(now, running)
        self._look_at_loop(now)
        budget, alone = self._crash_budget, len(running) < 2
        for run in running:
            if not run.started:
                continue  # taken by a thread that has not begun it yet
            late = judged - run.deadline
            if late >= GRACE and run.task is not None:
                # It ignores cancellation, or blocks the loop.
                why = BLOCKED if run is self._blocker else ""
                self._abandon(run, late_outcome(run, budget, alone=alone, because=why))
            elif late >= 0 and run.limit is not None and not run.is_late:
                assert self._loop is not None
                run.is_late = True
                self._loop.set_off(run.limit)
            elif late >= 0 and run.handler.kind == "thread":
                self._abandon(run, late_outcome(run, budget, alone=alone))
            elif run.canceled_at and now - run.canceled_at >= GRACE:
                if run.handler.kind != "executable":  # which is killed
                    self._abandon(run, handlers.CANCELED)
            elif now >= self._memory.valid_until(run.leased.lease_id):
                self._cancel(run, None)

    def free(self, runs: Iterable[Run]) -> None:
        """Free the places of jobs whose settlement is confirmed: until then they would
        count as lost if the process died.
        """
        for run in runs:
            if run.place >= 0:
                self._memory.free(run.place)
                self._places.append(run.place)

    def cancel(self, job_ids: set[str]) -> None:
        """Stop jobs that an operator has canceled.

        A coroutine is canceled, a program gets TERM and then KILL, a function sees
        `job.canceled`. Whatever still comes of them, they have ended already.
        """
        with self._changed:
            waiting = [
                r
                for r in self._waiting
                if r.leased.job_id in job_ids and self._waiting.remove(r)
            ]
            running = [r for r in self._running if r.leased.job_id in job_ids]
        for run in (*waiting, *running):
            # Before `run.job` is looked at: a thread that is about to begin it makes
            # the job first, and then looks here.
            run.outcome = handlers.CANCELED
        for run in waiting:
            run.deliver(run)
        for run in running:
            self._cancel(run, handlers.CANCELED)

    def release(self, error: str) -> None:
        """Give every running job back, uncharged: the worker stops first."""
        for run in list(self._running):
            self._abandon(run, handlers.released(error))

    def stop(self) -> None:
        """Let idle threads end; what runs is left alone."""
        with self._changed:
            self._stopping = True
            self._called = self._sleeping
            self._changed.notify_all()
        if self._loop is not None:
            self._loop.end()

    def descriptors(self) -> list[int]:
        """Return the descriptors of the event loop, if there is one."""
        return [] if self._loop is None else self._loop.descriptors()

    # Threads.

    def _thread(self) -> None:
        run: Run | None = None
        while True:
            if run is not None and self._runs_alone():
                run = self._hand_over(run)
            else:
                run = self._exchange(run)
            if run is None:
                return
            if self._taken % Pace.SAMPLED:
                self._attempts.run(run)
                continue
            began = thread_time()
            self._attempts.run(run)
            run.worked = thread_time() - began

    def _exchange(self, ended: Run | None) -> Run | None:
        """Hand in what has ended and take the next job, under one lock.

        None when there is nothing more for this thread to do.
        """
        with self._changed:
            if ended is not None:
                if not self._finish(ended):
                    return None  # abandoned while it ran: counted out already
                self._active -= 1
                self._wake_others()
            while not self._stopping:
                run = self._next()
                if run is not None:
                    self._active += 1
                    self._taken += 1
                    return run
            self._threads -= 1
            return None

    def _runs_alone(self) -> bool:
        """Say whether this thread runs all that waits, one job after another."""
        alone = self._pace.computing and self._active == 1
        waiting = self._waiting
        return bool(
            alone and waiting.threads and not (waiting.coroutines or self._limited)
        )

    def _hand_over(self, ended: Run) -> Run | None:
        """Hand in what has ended and take the next job without the lock, which would
        take as long as a handler that only computes.

        One job goes and one comes, each by one step of the interpreter: a call that
        abandons the first, or gives back the second, meanwhile, has it alone.
        """
        if not self._finish(ended):
            return None
        try:
            run = self._waiting.threads.popleft()
        except IndexError:
            with self._changed:
                self._active -= 1
            return self._exchange(None)
        self._running.add(run)
        run.place = self._places.pop()
        self._taken += 1
        return run

    def _next(self) -> Run | None:
        """Return a job that this thread should run now; sleep, and return None, if
        there is none.

        Handlers that only compute gain nothing from a second thread and lose by waking
        it: one runs them all, while another looks every `WATCH` seconds whether it
        has met one that takes longer.
        """
        waiting = self._waiting.threads
        if waiting and not (self._pace.computing and self._active):
            run = self._take(waiting)
            if run is not None:
                alone = self._pace.computing and self._watched
                if waiting and not alone:
                    self._call_thread()
                return run
        elif waiting and not self._watched:
            taken = self._taken
            self._watched = True
            self._watch.wait(WATCH)
            self._watched = False
            if self._taken == taken and waiting:
                self._call_thread()  # the next one to watch
                return self._take(waiting)
            return None
        self._sleeping += 1
        self._changed.wait()
        self._sleeping -= 1
        self._called -= 1
        return None

    # The event loop.

    def _pump(self) -> None:
        """Start waiting coroutines; runs in the event loop."""
        with self._changed:
            self._pumping = False
            while (run := self._take(self._waiting.coroutines)) is not None:
                assert self._loop is not None
                run.task = self._loop.begin(self._run_async(run))

    async def _run_async(self, run: Run) -> None:
        await self._attempts.run_async(run)
        with self._changed:
            self._finish(run)
            self._wake()

    def _look_at_loop(self, now: float) -> None:
        """While one step blocks the loop, stop the clocks of the coroutines of other
        jobs; give the loop up if nothing else will end that step.
        """
        blocked = None if self._loop is None else self._loop.look(now)
        self._blocker = None
        if blocked is None or self._loop is None:
            return
        with self._changed:
            for run in list(self._running):
                if run.job is not None and run.job is blocked.job:
                    self._blocker = run
                elif run.task is not None and run.started and run.put_off_at < now:
                    run.held_up += blocked.seconds
                    self._memory.put_off(run.place, run.deadline)
        if self._blocker is None and blocked.lasted >= GRACE:
            # Its job has ended or was given up, or is unknown.
            self._give_up_loop(known=blocked.job is not None)

    def _give_up_loop(self, *, known: bool = False) -> None:
        """End the jobs of a loop that is of no use any more. If the job that has done
        it is `known` they are released; else it is one of them, and all are lost.

        The process is replaced, as if each of them had ignored its timeout.
        """
        runs = [run for run in list(self._running) if run.task is not None]
        for run in runs:
            if known:
                outcome = handlers.released("another job blocked the event loop")
            else:
                outcome = outcomes.broken_loop(
                    run.handler, run.leased, self._crash_budget, alone=len(runs) == 1
                )
            self._abandon(run, outcome)
        self.stuck = max(self.stuck, 1)  # also where jobs only waited for the loop

    # Under the lock.

    def _free(self) -> int:
        return self.concurrency - self.stuck - len(self._running)

    def _take(self, queue: deque[Run]) -> Run | None:
        if not queue or self._free() <= 0:
            return None
        if self._limited:
            run = type_limits.first_below(queue, list(self._running))
            if run is None:
                return None
            queue.remove(run)
        else:
            run = queue.popleft()
        self._running.add(run)
        run.place = self._places.pop()
        return run

    def _wake_others(self) -> None:
        """Start what an ended job has made room for, besides what its own thread takes
        next.
        """
        if self._waiting.coroutines or self._limited:
            self._wake()

    def _wake(self) -> None:
        waiting = len(self._waiting.threads)
        if waiting:
            wanted = min(waiting, self._free())
            if self._pace.computing:
                wanted = min(wanted, 2)  # one to run them, one to watch
            for _ in range(wanted):
                self._call_thread()
        # Waking the loop costs more than a short coroutine: once, however many end.
        if self._waiting.coroutines and not self._pumping:
            try:
                self._loop = self._loop or SharedLoop(self._give_up_loop)
                self._loop.call(self._pump)
            except Exception as error:
                self._run_short(error)
            else:
                self._pumping = True

    def _call_thread(self) -> None:
        """Wake a thread that sleeps; start one if none does and there may be more."""
        if self._sleeping > self._called:
            self._called += 1
            self._changed.notify()
        elif self._threads < self.concurrency:
            try:
                OwnThread(target=self._thread, name="pgflow-slot", daemon=True).start()
            except Exception as error:  # whatever a handler has made of threads, too
                self._run_short(error)
            else:
                self._threads += 1

    def _run_short(self, error: Exception) -> None:
        """Have no more jobs leased for a while: no fault of any job's."""
        self._short_until = monotonic() + SHORTAGE
        log.warning(
            "jobs wait, or are given back: %s",
            error,
            extra=logs.trouble("slots_short", error),
        )

    # With or without the lock.

    def _finish(self, run: Run) -> bool:
        """Deliver a job that has ended; False if that is done already."""
        try:
            self._running.remove(run)
        except KeyError:
            return False
        self._memory.end(run.place)
        self._crowded = False
        self._pace.note(run.ended - run.started, run.worked)
        run.deliver(run)
        return True

    # From outside.

    def _cancel(self, run: Run, outcome: Outcome | None) -> None:
        """Ask a running job to stop. It hands itself in when it does; an `outcome`
        given here is then its own.
        """
        job = run.job
        if job is None or run.stopped:
            return
        # Not `job.canceled`: its handler may have set that.
        run.stopped = True
        run.outcome = outcome
        if outcome is handlers.CANCELED:
            run.canceled_at = monotonic()
        job.canceled.set()
        if run.task is not None:
            assert self._loop is not None
            self._loop.cancel(run.task)

    def _abandon(self, run: Run, outcome: Outcome) -> None:
        """Decide a running job's outcome from outside.

        What its handler still does no longer counts.
        """
        with self._changed:
            if run not in self._running:
                return
            run.outcome, run.ended = run.outcome or outcome, monotonic()
            if not self._finish(run):
                return
            self._wake_others()
            if run.task is None:
                # This thread ends when its handler returns.
                self._threads -= 1
                self._active -= 1
            if run.handler.kind != "executable":
                # A thread cannot be stopped: its place is gone until the process is
                # replaced.
                self.stuck += 1
        # Only now: told earlier, the handler could still hand in an outcome of its own.
        self._cancel(run, outcome)
        _end_span(run)
