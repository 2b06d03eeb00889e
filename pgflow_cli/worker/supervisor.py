"""The supervisor of `pgflow work`: starts worker processes, keeps their leases alive,
replaces them, ends them.

It never runs user code, so no handler can make a lease expire by holding the
interpreter or crashing it.
"""

from __future__ import annotations

import logging
import math
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import connection
from typing import Any

from pgflow_cli import errors
from pgflow_cli.models.jobs import Suspect
from pgflow_cli.repository import Database, Repository
from pgflow_cli.telemetry import logs
from pgflow_cli.telemetry.status_files import StatusFile
from pgflow_cli.telemetry.systemd import Notices
from pgflow_cli.worker.background import MaintenanceThread, QueueListener, Upkeep
from pgflow_cli.worker.channel import Garbled
from pgflow_cli.worker.companion import Companion
from pgflow_cli.worker.execution.threads import StandingThread
from pgflow_cli.worker.heartbeat import Heartbeat
from pgflow_cli.worker.leasing import capacity
from pgflow_cli.worker.leasing.suspects import PUT_OFF, SparePlace
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.places import Clearance, Places, Vacancy
from pgflow_cli.worker.process import (
    CONTEXT,
    Child,
    leave_behind,
)
from pgflow_cli.worker.signals import END, QUIET, RELEASE, Signals
from pgflow_cli.worker.standstill import Standstill

log = logging.getLogger("pgflow.supervisor")

TICK = 0.1  # seconds between two looks at the processes
LAST_GRACE = 3.0  # seconds a process has to release its jobs
# Seconds a killed process has to be gone: one that hangs in the kernel is left to it.
KERNEL_GRACE = 5.0
OUT_OF_TIME = (
    "--max-runtime is over, and it is not known that nothing is left to run",
    "Run it again, or allow it more time. Where nothing was leased, its log says why.",
)
CUT_SHORT = (
    "ended by {} before it was known that nothing is left to run",
    "Run it again: what ran has been settled or given back.",
)
NO_CONNECTION = (
    "the database has not answered each connection of this run within {:g} s",
    "Its log says why. It needs one for each process and three more, at least.",
)
SPARE = -1  # the number of a spare process


class Supervisor(Clearance):
    """Runs until it is told to end, or a limit of its options is reached. Exit code 0
    after a graceful end.
    """

    def __init__(
        self,
        options: WorkerOptions,
        companions: Sequence[Companion] = (),
        kept: list[str] | None = None,
    ) -> None:
        self.options = options
        self._companions = companions
        self._children: list[Child] = []
        # Its lock is a semaphore that a kill of all of us would leave behind.
        lock = False if options.max_jobs is None else CONTEXT.Lock()
        self._remaining = CONTEXT.Value("q", options.max_jobs or -1, lock=lock)
        self._signals = Signals(kept)
        self._spare = SparePlace(self._start_spare, patient=options.once)
        self._ran_once = self._was_ready = False
        self._job_types: list[str] | None = None  # that its processes run; None: any
        self._ending_at: float | None = None
        self._released_at: float | None = None
        self._idle_since = self._began = self._looked_at = time.monotonic()
        self._look_again = 0.0  # at the deadlines, after we stood still
        self._failure: errors.PgflowError | None = None
        database = Database(
            options.url,
            application_name=f"pgflow supervisor {options.name}",
            connect_timeout=options.connect_timeout,
            call_timeout=options.lease_seconds / 3,
        )
        database.reached.set()  # by `await_database`
        Repository.of(database).load()
        supervisor_id = str(uuid.uuid4())
        self._heartbeat = Heartbeat(
            options, database, supervisor_id, self._living, self._restarting
        )
        self._places = Places(options, self._heartbeat.hurry)
        standstill = Standstill(options, self._living)
        self._upkeep = Upkeep(
            options,
            database,
            looks=(standstill.look,),
            overdue_for=self._heartbeat.overdue_for,
        )
        self._maintaining = MaintenanceThread(options, database)
        self._wake_ups = QueueListener(options, database, self._wake)
        self._status = StatusFile(options.name, options.status_folders)
        self._notices = Notices(options.notify_socket, options.watchdog)

    def run(self) -> None:
        """Work. Raises what a worker process could not start for, after all
        have ended.
        """
        with self._signals.watched() as woken:
            try:
                self._work(woken)
            except Exception as error:
                log.critical(
                    "the supervisor has failed with %s, its processes end with it",
                    type(error).__name__,
                    exc_info=error,
                    extra={"event": "supervisor_failed"},
                )
                raise
            finally:
                # After an error, too: without a supervisor they would be headless.
                for child in self._children:
                    child.kill()
                    child.pipe.close()
        if self._failure is not None:
            raise self._failure

    def _work(self, woken: socket.socket) -> None:
        threads = self._threads()
        while not self._ended():
            for thread in threads:
                thread.attend()
            self._obey_signals()
            self._replace_missing()
            self._spare.attend(self._children, ending=self._ending_at is not None)
            self._listen_to_children(woken)
            self._look_at_deadlines()
            self._look_at_limits()
            # Not of the spare process: a suspect that holds it up harms no other job.
            living = [child for child in self._living() if not child.is_spare]
            memories = [child.memory for child in living]
            self._status.write(
                memories,
                stalled_for=max((c.stalled_for or 0.0 for c in living), default=0.0),
                quiet=sum(c.quiet for c in living),
                answered=any(c.is_answered() for c in living),
                restarting=sum(1 for v in self._restarting() if v.deaths),
                unanswered=self._heartbeat.failing_for(),
            )
            self._notices.turn(memories, ending=self._ending_at is not None)
            for companion in self._companions:
                companion.attend()
        self._stop(threads)
        self._status.remove()

    # Children.

    def _living(self) -> list[Child]:
        return [c for c in list(self._children) if c.ready and c.process.is_alive()]

    def _restarting(self) -> list[Vacancy]:
        """Return the places whose processes have died or load for long, until one is
        ready.
        """
        if self._ending_at is not None or self._spent():
            return []
        return self._places.without_process()

    def _wake(self) -> None:
        for child in self._living():
            child.wake()

    def _replace_missing(self) -> None:
        if self._ending_at is not None or not self._places.may_start():
            return
        options = self._places.next_options()
        for number in self._places.to_fill(self._children):
            if not self._spent():
                quiet = self._places.is_quiet(number, self._children)
                try:
                    child = Child.start(options, number, self._remaining, quiet=quiet)
                except OSError as error:
                    self._places.put_off(error, number)
                    return
                self._places.started()
                self._children.append(child)

    def _start_spare(self, suspect: Suspect) -> Child | None:
        options = self.options.of_spare(suspect)
        try:
            child = Child.start(options, SPARE, self._remaining, quiet=False)
        except OSError as error:
            log.error(  # noqa: TRY400 - the sentence is all there is to know
                "cannot start a spare process: %s",
                error.strerror or error,
                extra={"event": "process_not_started"},
            )
            return None
        self._children.append(child)
        return child

    def _spent(self) -> bool:
        return self._ran_once or capacity.left_to_lease(self._remaining) == 0

    def _listen_to_children(self, woken: socket.socket) -> None:
        pipes = [c.pipe.fileno() for c in self._children if not c.pipe.ended]
        sentinels = [c.process.sentinel for c in self._children]
        try:
            connection.wait([*pipes, *sentinels, woken], TICK)
        except OSError:
            # More descriptors than a limit set later allows, or no memory.
            time.sleep(TICK)
        with suppress(BlockingIOError):
            woken.recv(64)
        for child in list(self._children):
            dead = not child.process.is_alive()
            self._hear(child)
            if dead:
                self._bury(child)

    def _hear(self, child: Child) -> None:
        try:
            for kind, *values in child.pipe.receive():
                self._take_message(child, kind, values)
        except Garbled as error:
            log.error(  # noqa: TRY400 - the sentence is all there is to know
                "%s speaks no sense, killed: %s",
                child.name,
                error,
                extra={"event": "process_killed", "worker_id": child.name},
            )
            child.pipe.ended = True
            child.process.kill()

    def _take_message(self, child: Child, kind: str, values: list[Any]) -> None:
        if kind == "ready":
            child.ready, (child.job_types, codes) = True, values
            self._job_types = child.job_types
            child.ready_at = time.monotonic()
            self._was_ready = True
            self._places.fill(child)
            self._heartbeat.hurry()
            self._upkeep.urgent.put(lambda r: r.leases.declare_error_codes(codes))
            if child.job_types == [] and self._ending_at is None:
                child.idle = True
                log.warning(
                    "no handlers: nothing will be leased"
                    " (--app, --handlers-dir, --exec, --simulate)",
                    extra={"event": "no_handlers", "worker_id": child.name},
                )
        elif kind == "idle":
            child.idle = values[0]
        elif kind == "counted":
            self._heartbeat.ledger.add(values[0])
        elif kind == "retiring":
            child.retiring = True
            self._heartbeat.hurry()
        elif kind == "suspect":
            self._spare.ask(child, *values)
        elif kind == "taken":
            self._spare.tell(child, taken=values[0])
        elif kind == "done":
            child.done = True
            self._ran_once = self._ran_once or (
                self.options.once and not child.is_spare
            )
        elif kind == "failed":
            self._fail(child, *values)

    def _fail(
        self, child: Child, code: int, message: str, hints: Sequence[str]
    ) -> None:
        if child.is_spare:
            log.error(
                "%s cannot run its job: %s",
                child.name,
                message,
                extra={"event": "spare_failed", "worker_id": child.name},
            )
            return
        child.failure = message
        others = any(c.process.is_alive() for c in self._children if c is not child)
        if self._was_ready and (others or not self._ends_by_itself()):
            log.error(
                "%s cannot load the handlers: %s",
                child.name,
                message,
                extra={"event": "process_not_started", "worker_id": child.name},
            )
            return
        self._failure = self._failure or errors.of_exit_code(code, message, *hints)
        self._end()

    def _ends_by_itself(self) -> bool:
        return self.options.drain or self.options.once

    # Ending.

    def _look_at_limits(self) -> None:
        now = time.monotonic()
        options = self.options
        idle = self._is_idle()
        if not idle:
            self._idle_since = now
        if self._ending_at is None:
            patience = options.patience if self._ends_by_itself() else math.inf
            if any(c.lacks_database(patience) for c in self._living()) and not idle:
                message, hint = NO_CONNECTION
                self._failure = errors.DatabaseUnavailable(
                    message.format(patience), hint
                )
                self._end()
            elif options.max_runtime and now - self._began >= options.max_runtime:
                if self._ends_by_itself() and not self._is_done():
                    self._failure = errors.TryLater(*OUT_OF_TIME)
                self._end()
            elif (
                (options.drain and self._is_drained())
                or (idle and options.once and self._job_types == [])
                or (
                    idle
                    and options.idle_timeout
                    and now - self._idle_since >= options.idle_timeout
                )
                or (self._spent() and not self._children)
            ):
                self._upkeep.urgent.put(self._tell_left)
                self._end()
            return
        if (
            self._released_at is None
            and now - self._ending_at >= options.shutdown_timeout
        ):
            self._release()
        if self._released_at is not None and now - self._released_at >= LAST_GRACE:
            self._kill_all(now - self._released_at)

    def _tell_left(self, repository: Repository) -> None:
        """Say that jobs are due which only a worker with other handlers runs: an exit
        code of 0 would tell that the queue is drained.
        """
        types = self._job_types
        if not (self.options.drain or self.options.once) or types is None:
            return
        find, queues = repository.leases.find_due_job, self.options.queues
        if find(queues, None) and not (types and find(queues, types)):
            log.warning(
                "jobs are due that no handler of this worker runs"
                " (pgflow doctor --check no-worker)",
                extra={"event": "no_handlers", "worker_id": self.options.name},
            )

    def _is_idle(self) -> bool:
        return bool(self._children) and all(c.idle for c in self._children)

    def _is_done(self) -> bool:
        return self._is_drained() if self.options.drain else self._is_idle()

    def _is_drained(self) -> bool:
        """Say whether there was an instant at which nothing was left to run: one of the
        processes began to look and found nothing, none held a job or was about to lease
        one, and the jobs of those that had died were back.
        """
        if not self._is_idle() or self._job_types == []:
            return self._is_idle()
        now = time.monotonic()
        looks = [child.memory.drained_at() for child in self._children]
        # A job that waits to run apart is put off for a moment by a process that ends.
        back = self._upkeep.graveyard.came_back_at() + PUT_OFF
        return all(looks) and back <= max(looks) <= now

    def _kill_all(self, waited: float) -> None:
        for child in list(self._children):
            child.process.kill()
            if waited >= LAST_GRACE + KERNEL_GRACE:
                log.error(
                    "process %s of %s hangs in the kernel and is left to it",
                    child.process.pid,
                    child.name,
                    extra={"event": "process_left", "worker_id": child.name},
                )
                self._bury(child)
                leave_behind()

    def _end(self) -> None:
        """Lease no more; let what runs end."""
        if self._ending_at is None:
            self._ending_at = time.monotonic()
            self._maintaining.stop()
            for child in self._children:
                child.drain()
                self._hear(child)
                if not child.ready and not child.is_spare:
                    child.dismissed = True  # it holds nothing that is worth a wait
                    child.process.kill()

    def _release(self) -> None:
        """Give back what still runs, uncharged."""
        if self._released_at is None:
            self._released_at = time.monotonic()
            for child in self._children:
                child.release()

    def _ended(self) -> bool:
        return self._ending_at is not None and not self._children

    def _cut_short(self, name: str) -> None:
        """Have a run that is to end by itself fail if a signal ends it before."""
        done = self._is_drained() if self.options.drain else self._has_leased()
        done = done or self._spent()
        if self._ends_by_itself() and not done and self._ending_at is None:
            message, hint = CUT_SHORT
            self._failure = errors.TryLater(message.format(name), hint)

    def _has_leased(self) -> bool:
        return self._ran_once or any(c.memory.leased_at() for c in self._children)

    def _obey_signals(self) -> None:
        for name in self._signals.take():
            if name == RELEASE or name in END:
                self._cut_short(name)
            if name == RELEASE or (name in END and self._ending_at is not None):
                log.info("%s: releasing what runs", name, extra={"event": "releasing"})
                self._end()
                self._release()
            elif name in END:
                log.info(
                    "%s: leasing no more, waiting for what runs",
                    name,
                    extra={"event": "draining"},
                )
                self._end()
            elif name in QUIET:
                log.info(
                    "%s: all are quiet, leasing nothing", name, extra={"event": "quiet"}
                )
                self._places.make_quiet()
                for child in self._children:
                    child.hushed = not child.is_spare
                    child.make_quiet()
                self._heartbeat.hurry()
            else:
                if not self._children:
                    logs.say_stacks()  # our own: there is no other
                for child in self._children:
                    child.dump()

    # Duties.

    def _threads(self) -> list[StandingThread]:
        duties = {"heartbeat": self._heartbeat.run, "upkeep": self._upkeep.run}
        if self.options.listen:
            duties["listener"] = self._wake_ups.run
        if self.options.maintain:
            duties["maintenance"] = self._maintaining.run
        return [StandingThread(name, duty) for name, duty in duties.items()]

    def _stop(self, threads: list[StandingThread]) -> None:
        for duty in (self._wake_ups, self._heartbeat, self._upkeep):
            duty.stop()
        for thread in threads:
            thread.join(self.options.lease_seconds / 3 + 1)
