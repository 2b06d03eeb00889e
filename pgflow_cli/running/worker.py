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
from multiprocessing.connection import Connection
from typing import Any

from pgflow_cli import handlers, logs, spans
from pgflow_cli.errors import PgflowError
from pgflow_cli.handlers import App
from pgflow_cli.models import JobOptions
from pgflow_cli.repository import Database, Repository, Watchdog
from pgflow_cli.running.board import Board
from pgflow_cli.running.cycle import Cycle
from pgflow_cli.running.intake import Intake
from pgflow_cli.running.slots import Slots
from pgflow_cli.running.workplan import WorkPlan

log = logging.getLogger("pgflow.worker")

TICK = 0.05  # seconds between two looks at deadlines and leases
REPORT = 1.0  # seconds between two reports of what was counted
FLUSH = 2.0  # seconds that the application's spans may take to leave at the end
PATIENCE = 1.0  # seconds a job may wait behind busy slots before it is given back


class Worker:
    """One process at work: its slots, its connections, and what it is told."""

    def __init__(
        self,
        plan: WorkPlan,
        worker_id: str,
        name: str,
        board: Board,
        app: App,
        remaining: Any,
    ) -> None:
        self._plan, self._board = plan, board
        self._database = Database(
            plan.url,
            application_name=f"pgflow work {name}",
            connect_timeout=plan.connect_timeout,
            call_timeout=plan.lease_seconds / 3,
            steady_plans=True,
            watchdog=Watchdog(),
        )
        self._database.reached.set()  # by the supervisor
        self._enqueuer: Repository | None = None
        self._enqueue_lock = threading.Lock()
        self.slots = Slots(
            plan.concurrency,
            board,
            self._enqueue_now,
            exec_environment=plan.exec_environment,
            tracing=spans.consumer(name),
        )
        self._intake = Intake(plan, board, app, self.slots, remaining)
        self._cycles = [
            Cycle(
                self._intake,
                Repository.of(self._database),
                worker_id=worker_id,
                worker_name=name,
                primary=number == 0,
            )
            for number in range(plan.connections)
        ]

    def _enqueue_now(self, bodies: list[dict[str, object]]) -> list[str]:
        with self._enqueue_lock:
            if self._enqueuer is None:
                self._enqueuer = Repository.of(self._database)
            guards = JobOptions(
                max_payload_bytes=self._plan.max_payload_bytes,
                max_enqueue_per_minute=self._plan.max_enqueue_per_minute,
            )
            return self._enqueuer.enqueue_many(json.dumps(bodies), options=guards)

    # Life.

    def tick(self) -> None:
        """Look after deadlines, leases and jobs that wait too long; often."""
        now = time.monotonic()
        self._board.turn()
        self.slots.stop_late(now)
        self._intake.isolate()
        if self._intake.ending or self.slots.stuck:
            self._intake.give_back(self.slots.give_back())
        else:
            self._intake.give_back(self.slots.give_back(waiting_since=now - PATIENCE))
        if self.slots.stuck and not self._intake.ending:
            log.warning(
                "a handler ignored its timeout; this process ends after its other jobs",
                extra={"event": "process_retiring"},
            )
            self._intake.ending = True

    def wake(self) -> None:
        """Look for jobs now."""
        self._intake.woken.set()
        self._cycles[0].event.set()

    def run(self, pipe: Connection) -> None:
        """Serve until the supervisor or a limit ends it."""
        for cycle in self._cycles:
            threading.Thread(target=cycle.run, name="pgflow-cycle", daemon=True).start()
        told_idle = told_retiring = False
        told_quiet = self._intake.quiet
        report_at = time.monotonic() + REPORT
        while not self._intake.finished():
            if pipe.poll(TICK):
                while pipe.poll():
                    self._obey(pipe.recv())
            self.tick()
            if self._intake.idle != told_idle:
                told_idle = self._intake.idle
                pipe.send(("idle", told_idle))
            if self._intake.is_still() and not told_quiet:
                told_quiet = True
                log.debug("told to lease no more", extra={"event": "worker_quiet"})
            if self.slots.stuck and not told_retiring:
                told_retiring = True
                pipe.send(("retiring",))
            if time.monotonic() >= report_at:
                report_at = time.monotonic() + REPORT
                self._report(pipe)
        self._report(pipe)
        self.slots.stop()

    def _report(self, pipe: Connection) -> None:
        if tally := self._intake.counters.take():
            pipe.send(("counted", tally))

    def _obey(self, command: str) -> None:
        if command == "wake":
            self.wake()
        elif command == "quiet":
            self._intake.quiet = True
        elif command == "drain":
            self._intake.ending = True
        elif command == "release":
            self._intake.ending = True
            self._intake.give_back(self.slots.give_back())
            self.slots.release("the worker was stopped before the job ended")
        elif command.startswith("cancel "):
            self._intake.cancel(set(command.split()[1:]))
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
    logs.set_up(
        plan.log_format,
        plan.log_level,
        processes=plan.processes + 1,
        worker_id=name,
    )
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
    types = None if plan.on_unknown == "dlq" else sorted(app.handlers)
    pipe.send(("ready", types, handlers.declared_codes(app)))
    try:
        worker.run(pipe)
        pipe.send(("done",))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the supervisor is gone: its leases end, and so do we
    spans.flush(FLUSH)
    # Threads that ignored their timeout would keep the interpreter from ending.
    logging.shutdown()
    os._exit(0)


def _end_with_traceback(args: threading.ExceptHookArgs) -> None:
    """End the process when one of its threads fails: the supervisor sees it and starts
    another.
    """
    if args.exc_type is not SystemExit:
        logs.note_thread(args)
        os._exit(70)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the closed pipe
    must do.
    """
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only here

        parent_death_signal = 1  # PR_SET_PDEATHSIG, prctl(2)
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
