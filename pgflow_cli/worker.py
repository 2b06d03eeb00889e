"""A worker process: leases jobs for its free slots, has them run, settles each when it
ends.

It runs user code and is therefore expendable: its supervisor (another process) extends
its leases, watches its deadlines from outside, and settles what it held if it dies.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

from pgflow_cli import handlers, logs
from pgflow_cli.board import Board
from pgflow_cli.cursors import Cursors
from pgflow_cli.cycle import Cycle
from pgflow_cli.errors import PgflowError
from pgflow_cli.handlers import App
from pgflow_cli.models import JobOptions, LeasedJob
from pgflow_cli.repository import Database, Repository, Watchdog
from pgflow_cli.slots import Run, Slots
from pgflow_cli.workplan import WorkPlan

log = logging.getLogger("pgflow.worker")

TICK = 0.05  # seconds between two looks at deadlines and leases
HORIZON = 0.1  # seconds of work that may wait in memory
# At most so many batches wait: for each connection one that runs, one on its way.
BATCHES = 4
PATIENCE = 1.0  # seconds a job may wait behind busy slots before it is given back


class Worker:
    """What the connections, the slots and the supervisor's commands share in one
    process.
    """

    def __init__(
        self,
        plan: WorkPlan,
        worker_id: str,
        name: str,
        board: Board,
        app: App,
        remaining: Any,
    ) -> None:
        self.plan, self.worker_id, self.name = plan, worker_id, name
        self.board, self.app = board, app
        self.cursors = Cursors()
        self.database = Database(
            plan.url,
            application_name=f"pgflow work {name}",
            connect_timeout=plan.connect_timeout,
            call_timeout=plan.lease_seconds / 3,
            steady_plans=True,
            watchdog=Watchdog(),
        )
        self.slots = Slots(
            plan.concurrency,
            board,
            self._enqueue_now,
            exec_environment=plan.exec_environment,
        )
        self.job_types = None if plan.on_unknown == "dlq" else sorted(app.handlers)
        self.quiet = not app.handlers
        self.ending = False
        self.woken = threading.Event()
        self.more = threading.Event()  # there is work for a second connection
        self.idle = False
        # Jobs that all processes together may still lease; -1: any number.
        self._remaining = remaining
        self._lock = threading.Lock()
        self._in_flight = 0
        self._reserved = 0
        self._settling = 0  # outcomes on their way to the database
        self._suspects: deque[Run] = deque()
        self._enqueuer: Repository | None = None
        self._enqueue_lock = threading.Lock()
        self.cycles = [
            Cycle(self, Repository.of(self.database), primary=number == 0)
            for number in range(plan.connections)
        ]

    # Room.

    @property
    def in_flight(self) -> int:
        """Jobs leased and not yet settled, as far as the database has confirmed."""
        return self._in_flight

    def reserve(self, settling: int, at_least: int = 1) -> int:
        """Announce outcomes that are on their way, and reserve room for a lease that
        goes with them; 0 when less than `at_least` is free. `confirm` must follow.
        """
        with self._lock:
            self._settling += settling
            if not self._may_lease():
                return 0
            capacity = self.plan.concurrency - self.slots.stuck
            capacity += self.slots.prefetch(HORIZON, BATCHES * self.plan.batch_size)
            room = capacity - (self._in_flight - self._settling) - self._reserved
            room = min(room, self.plan.batch_size, self._allowed())
            if room < at_least:
                return 0
            self._reserved += room
            return room

    def confirm(
        self, room: int, settling: int, *, leased: int = 0, settled: int = 0
    ) -> None:
        """Turn what was announced and reserved into what came of it."""
        with self._lock:
            self._reserved -= room
            self._settling -= settling
            self._in_flight += leased - settled
            if self._remaining.value > 0:
                with self._remaining.get_lock():
                    self._remaining.value = max(0, self._remaining.value - leased)
            if self.plan.once and room:
                self.ending = True

    def _may_lease(self) -> bool:
        healthy = self.board.renewed_at() + self.plan.lease_seconds > time.monotonic()
        return healthy and not (self.quiet or self.ending or self._suspects)

    def _allowed(self) -> int:
        remaining: int = self._remaining.value
        return self.plan.batch_size if remaining < 0 else remaining

    def leasable_types(self) -> list[str] | None:
        """Return the job types to lease now; None: any."""
        if self.job_types is None:
            return None
        full = self.slots.full_types()
        return [t for t in self.job_types if t not in full] if full else self.job_types

    # Jobs.

    def accept(self, jobs: list[LeasedJob], cycle: Cycle, now: float) -> None:
        """Queue leased jobs. One that has nearly spent its crash budget waits until it
        can run alone.
        """
        runs = []
        for job in jobs:
            handler = self.app.handlers.get(job.job_type) or handlers.UNKNOWN
            timeout = (
                handler.timeout if job.timeout_ms is None else job.timeout_ms / 1000
            )
            run = Run(job, handler, cycle.deliver, now, timeout)
            if job.lost_attempts >= self.plan.crash_budget - 1:
                self._suspects.append(run)
            else:
                runs.append(run)
        self.slots.submit(runs)

    def _isolate(self) -> None:
        """Run a suspect with no neighbour in this process, so that its crash can cost
        nobody else an attempt.
        """
        if not self._suspects:
            return
        self._give_back(self.slots.give_back())
        while len(self._suspects) > 1:
            self._give_back([self._suspects.pop()])
        suspect = self._suspects[0]
        if suspect.over:
            self._suspects.popleft()
        elif not suspect.submitted and self._in_flight == 1 and not self._reserved:
            suspect.submitted = True
            self.slots.submit([suspect])
        elif self.ending and not suspect.submitted:
            self._suspects.popleft()
            self._give_back([suspect])

    def _give_back(self, runs: list[Run]) -> None:
        for run in runs:
            run.deliver(run)

    def _enqueue_now(self, bodies: list[dict[str, object]]) -> list[str]:
        with self._enqueue_lock:
            if self._enqueuer is None:
                self._enqueuer = Repository.of(self.database)
            guards = JobOptions(
                max_payload_bytes=self.plan.max_payload_bytes,
                max_enqueue_per_minute=self.plan.max_enqueue_per_minute,
            )
            return self._enqueuer.enqueue_many(json.dumps(bodies), options=guards)

    # Life.

    def tick(self) -> None:
        """Look after deadlines, leases and jobs that wait too long; often."""
        now = time.monotonic()
        self.board.turn()
        self.slots.stop_late(now)
        self._isolate()
        if self.ending or self.slots.stuck:
            self._give_back(self.slots.give_back())
        else:
            self._give_back(self.slots.give_back(waiting_since=now - PATIENCE))
        if self.slots.stuck and not self.ending:
            log.warning(
                "a handler ignored its timeout; this process ends after its other jobs"
            )
            self.ending = True

    def wake(self) -> None:
        """Look for jobs now."""
        self.woken.set()
        self.cycles[0].event.set()

    def finished(self) -> bool:
        spent = self._remaining.value == 0
        return (self.ending or spent) and self._in_flight == 0 and not self._reserved

    def run(self, pipe: Connection) -> None:
        """Serve until the supervisor or a limit ends it."""
        for cycle in self.cycles:
            threading.Thread(target=cycle.run, name="pgflow-cycle", daemon=True).start()
        told_idle = told_retiring = False
        while not self.finished():
            if pipe.poll(TICK):
                while pipe.poll():
                    self._obey(pipe.recv())
            self.tick()
            if self.idle != told_idle:
                told_idle = self.idle
                pipe.send(("idle", told_idle))
            if self.slots.stuck and not told_retiring:
                told_retiring = True
                pipe.send(("retiring",))
        self.slots.stop()

    def _obey(self, command: str) -> None:
        if command == "wake":
            self.wake()
        elif command == "quiet":
            self.quiet = True
        elif command == "drain":
            self.ending = True
        elif command == "release":
            self.ending = True
            self._give_back(self.slots.give_back())
            self.slots.release("the worker was stopped before the job ended")
        elif command == "dump":
            faulthandler.dump_traceback(file=sys.stderr)


def main(
    plan: WorkPlan,
    worker_id: str,
    name: str,
    board: Board,
    pipe: Connection,
    remaining: Any,
) -> None:
    """Run one worker process; the supervisor starts it with multiprocessing's spawn."""
    _die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, signal.SIG_IGN
        )  # a terminal sends them to all; the supervisor decides
    logs.set_up(plan.log_format, plan.log_level, worker=name)
    threading.excepthook = _end_with_traceback
    # A cycle waits for the interpreter behind handlers that compute; 5 ms would be
    # longer than its round trip.
    sys.setswitchinterval(0.0005)
    try:
        app = handlers.load(
            plan.apps,
            handlers_dir=plan.handlers_dir,
            exec_specs=plan.exec_specs,
            simulate=plan.simulate,
        )
    except PgflowError as error:
        pipe.send(("failed", error.exit_code, error.message, error.hints))
        return
    worker = Worker(plan, worker_id, name, board, app, remaining)
    pipe.send(("ready", worker.job_types, handlers.declared_codes(app)))
    try:
        worker.run(pipe)
        pipe.send(("done",))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the supervisor is gone: its leases end, and so do we
    # Threads that ignored their timeout would keep the interpreter from ending.
    logging.shutdown()
    os._exit(0)


def _end_with_traceback(args: threading.ExceptHookArgs) -> None:
    """End the process when one of its threads fails: the supervisor sees it and starts
    another.
    """
    if args.exc_type is not SystemExit:
        traceback.print_exception(args.exc_type, args.exc_value, args.exc_traceback)
        os._exit(70)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the closed pipe
    must do.
    """
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only here

        parent_death_signal = 1  # PR_SET_PDEATHSIG, prctl(2)
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
