"""A worker process: leases jobs for its free slots, has them run, settles each when it
ends.

It runs user code and is therefore expendable: its supervisor (another process) extends
its leases, watches its deadlines from outside, and settles what it held if it dies.
"""

from __future__ import annotations

import functools
import gc
import json
import logging
import sys
import threading
from collections import deque
from typing import Any

from pgflow_cli import handlers
from pgflow_cli.errors import PgflowError
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.handlers import App, JobFields
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.repository import Database, Repository, Watchdog
from pgflow_cli.telemetry import logs, spans
from pgflow_cli.worker import descriptors, safeguards
from pgflow_cli.worker.channel import ChannelLost, SupervisorGone, WorkerEnd
from pgflow_cli.worker.execution import damage, executables
from pgflow_cli.worker.execution.slots import Slots
from pgflow_cli.worker.execution.threads import OwnThread
from pgflow_cli.worker.leasing.capacity import Capacity
from pgflow_cli.worker.leasing.loop import LeaseLoop
from pgflow_cli.worker.leasing.spare import SpareLoop
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.shared_memory import Control, SharedMemory

log = logging.getLogger("pgflow.worker")

# Of the repository: what a worker process uses.
NOUNS = ("enqueue", "leases", "unreadable_jobs", "unsettled_leases")
TICK = 0.05  # seconds between two looks at deadlines and leases
REPORT = 1.0  # seconds between two reports of what was counted
FLUSH = 2.0  # seconds that the application's spans may take to leave at the end
PATIENCE = 1.0  # seconds a job may wait behind busy slots before it is given back
COLLECTED = 10_000  # objects between two looks of the garbage collector
LAST_WORDS = 5.0  # seconds that a supervisor which does not read may take at the end


class Worker:
    """One process at work: its slots, its connections, and what it is told."""

    def __init__(
        self,
        options: WorkerOptions,
        worker_id: str,
        name: str,
        memory: SharedMemory,
        control: Control,
        app: App,
        remaining: Any,
    ) -> None:
        self._options, self._memory, self._control = options, memory, control
        self._id = worker_id
        self._released = self._told_taken = False
        self._turning: list[LeaseLoop] = []
        self._database = Database(
            options.url,
            application_name=f"pgflow work {name}",
            connect_timeout=options.connect_timeout,
            call_timeout=options.lease_seconds / 3,
            steady_plans=True,
            watchdog=Watchdog(),
        )
        self._database.reached.set()  # by the supervisor
        self._enqueuer: Repository | None = None
        self._enqueue_lock = threading.Lock()
        self.slots = Slots(
            options.concurrency,
            memory,
            self._enqueue_now,
            crash_budget=options.crash_budget,
            exec_environment=options.exec_environment,
            tracing=spans.consumer(name),
        )
        self._capacity = Capacity(options, memory, app, self.slots, remaining)
        suspect = options.suspect
        kind = LeaseLoop if suspect is None else functools.partial(SpareLoop, suspect)
        self._repositories = [
            Repository.of(self._database) for _ in range(options.connections)
        ]
        for repository in self._repositories:
            repository.load(*NOUNS)
        self._loops = [
            kind(
                self._capacity,
                repository,
                worker_id=worker_id,
                worker_name=name,
                primary=number == 0,
            )
            for number, repository in enumerate(self._repositories)
        ]

    def _enqueue_now(self, bodies: list[dict[str, object]]) -> list[str]:
        with self._enqueue_lock:
            if self._enqueuer is None:
                self._enqueuer = Repository.of(self._database)
            guards = JobOptions(
                max_payload_bytes=self._options.max_payload_bytes,
                max_enqueue_per_minute=self._options.max_enqueue_per_minute,
            )
            return self._enqueuer.enqueue.enqueue_many(
                json.dumps(bodies), options=guards
            )

    def descriptors(self) -> list[int]:
        """Return the descriptors of connections and of the event loop."""
        opened = [*self._repositories, *filter(None, [self._enqueuer])]
        found = [repository.link.descriptor for repository in opened]
        return [fd for fd in found if fd is not None] + self.slots.descriptors()

    # Life.

    def tick(self) -> None:
        """Look after deadlines, leases and jobs that wait too long; often."""
        now = monotonic()
        self._memory.turn()
        self._memory.show_turn(min((c.turned_at() for c in self._turning), default=now))
        damage.end_spoilt_process()
        if self.slots.is_full():
            self._memory.occupy()
        self.slots.stop_late(now)
        if self._capacity.ending or self.slots.stuck:
            self._capacity.give_back(self.slots.give_back())
        elif not self._options.once:
            self._capacity.give_back(self.slots.give_back(waiting_since=now - PATIENCE))
        if self.slots.stuck and not self._capacity.ending:
            log.warning(
                "a handler ignored its timeout, or that its job was canceled; this"
                " process leases nothing more and ends after its other jobs",
                extra={"event": "process_retiring"},
            )
            self._capacity.ending = True

    def wake(self) -> None:
        """Look for jobs now."""
        self._capacity.woken.set()
        self._loops[0].event.set()

    def run(self, pipe: WorkerEnd) -> None:
        """Serve until the supervisor or a limit ends it.

        Raises SupervisorGone or ChannelLost.
        """
        self._obey()  # before the first lease
        resting = deque(self._loops)
        told_idle = told_retiring = False
        told_quiet = self._capacity.is_still()
        report_at = monotonic() + REPORT
        while not self._capacity.finished():
            self._start_loops(resting)
            if pipe.wait(TICK):
                self.wake()
            self._obey()
            self.tick()
            self._attend_suspects(pipe)
            # While the supervisor does not read, what is counted stays here.
            if not pipe.flush():
                continue
            if self._capacity.is_drained() != told_idle:
                told_idle = not told_idle
                pipe.send("idle", told_idle)
            if self._capacity.is_still() != told_quiet:
                told_quiet = not told_quiet
                what = "nothing" if told_quiet else "again"
                log.debug("told to lease %s", what, extra={"event": "worker_quiet"})
            self._tell_taken(pipe)
            if self.slots.stuck and not told_retiring:
                told_retiring = True
                pipe.send("retiring")
            if monotonic() >= report_at:
                report_at = monotonic() + REPORT
                self._report(pipe)
        self._tell_taken(pipe)
        self._report(pipe)
        self.slots.stop()

    def _attend_suspects(self, pipe: WorkerEnd) -> None:
        told = self._control
        leaving = told.is_draining() or told.is_releasing()
        leaving = leaving or bool(self.slots.stuck and not self._options.once)
        question = self._capacity.attend_suspects(
            told.answered(), self._id, leaving=leaving
        )
        if question is not None:
            pipe.send("suspect", *question)

    def _tell_taken(self, pipe: WorkerEnd) -> None:
        """Say once whether a spare process has taken over its job."""
        [loop, *_] = self._loops
        if isinstance(loop, SpareLoop) and loop.taken is not None:
            if not self._told_taken:
                pipe.send("taken", loop.taken)
            self._told_taken = True

    def _start_loops(self, resting: deque[LeaseLoop]) -> None:
        while resting:
            thread = OwnThread(target=resting[0].run, name="pgflow-cycle", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # at the next turn, then
                log.warning(
                    "nothing is leased yet: %s",
                    error,
                    extra=logs.trouble("slots_short", error),
                )
                return
            self._turning.append(resting.popleft())

    def _report(self, pipe: WorkerEnd) -> None:
        self._capacity.counters.count_dropped_lines(logs.take_dropped())
        if tally := self._capacity.counters.take():
            pipe.send("counted", tally)

    def _obey(self) -> None:
        """Do what the supervisor has asked for; flags stay set."""
        told = self._control
        self._capacity.make_quiet(quiet=told.is_quiet())
        if told.is_draining() or told.is_releasing():
            self._capacity.ending = True
        if told.is_releasing() and not self._released:
            self._released = True
            self._capacity.give_back(self.slots.give_back())
            self.slots.release("the worker was stopped before the job ended")
        if canceled := told.canceled():
            self._capacity.cancel(canceled)
        if told.wants_dump():
            logs.say_stacks()


def main(
    options: WorkerOptions,
    worker_id: str,
    name: str,
    memory: SharedMemory,
    control: Control,
    pipe: WorkerEnd,
    remaining: Any,
) -> None:
    """Run one worker process; the supervisor starts it with multiprocessing's spawn."""
    safeguards.ignore_signals()
    safeguards.die_with_parent()
    safeguards.hide_memory()
    logs.set_up(
        options.log_format,
        options.log_level,
        processes=options.processes + 1,
        worker_id=name,
        filters=[JobFields()],
    )
    safeguards.take()
    # A lease loop waits for the interpreter behind handlers that compute; 5 ms would be
    # longer than its round trip.
    sys.setswitchinterval(0.0005)
    # The collector looks when a batch of jobs has come and gone. At every 700 objects,
    # as usual, it looks at those that are held, frees nothing, and takes 4 of 42
    # microseconds a job. An application that is loaded now may choose otherwise.
    gc.set_threshold(COLLECTED, *gc.get_threshold()[1:])
    try:
        _serve(options, worker_id, name, memory, control, pipe, remaining)
        _flush(pipe)
    except SupervisorGone as error:
        # Its leases end, and so do we.
        log.debug("the supervisor is gone: %s", error, extra={"event": "orphaned"})
    except ChannelLost as error:
        log.critical("the process ends: %s", error, extra={"event": "process_failed"})
        safeguards.end(safeguards.FAILED)
    except BaseException as error:  # an application's own, too
        log.critical(
            "the process has failed with %s: a bug",
            type(error).__name__,
            exc_info=error,
            extra={"event": "process_failed"},
        )
        safeguards.end(safeguards.FAILED)
    spans.flush(FLUSH)
    safeguards.end(0)


def _serve(
    options: WorkerOptions,
    worker_id: str,
    name: str,
    memory: SharedMemory,
    control: Control,
    pipe: WorkerEnd,
    remaining: Any,
) -> None:
    if control.is_draining():
        return  # it is over before it has begun
    try:
        app = handlers.load(
            options.apps,
            handlers_dir=options.handlers_dir,
            exec_specs=options.exec_specs,
            simulate=options.simulate,
        )
    except PgflowError as error:
        pipe.send("failed", error.exit_code, error.message, error.hints)
        return
    safeguards.take_again()
    for fault in executables.faults_of(app):
        log.warning(
            "not every handler can be started: %s",
            fault,
            extra={"event": "handler_not_startable"},
        )
    if control.is_draining():
        return
    worker = Worker(options, worker_id, name, memory, control, app, remaining)
    # Without handlers nothing is leased, whatever becomes of unknown types.
    unknown = options.on_unknown == "dlq" and app.handlers
    types = None if unknown else sorted(app.handlers)
    descriptors.guard(lambda: [pipe.fileno(), *worker.descriptors()])
    pipe.send("ready", types, handlers.declared_codes(app))
    worker.run(pipe)
    pipe.send("done")


def _flush(pipe: WorkerEnd) -> None:
    until = monotonic() + LAST_WORDS
    while not pipe.flush() and monotonic() < until:
        pipe.wait(TICK)
