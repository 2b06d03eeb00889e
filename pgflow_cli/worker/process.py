"""A worker process as its supervisor sees it: how it is started, spoken to, and settled
for when it is dead.
"""

from __future__ import annotations

import atexit
import logging
import math
import multiprocessing
import signal
import socket
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker, util
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from pgflow_cli.worker import channel, safeguards, worker
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.shared_memory import Control, RunningJob, SharedMemory

log = logging.getLogger("pgflow.supervisor")

CONTEXT = multiprocessing.get_context("spawn")


KILLED = (
    1.0  # seconds a killed process has to be gone; in the kernel it may take longer
)
# Seconds without any use of the processor after which a process that is not ready is
# frozen; what imports for long computes now and then.
START = 60.0
# Seconds after which a loop that has not turned, though no job accounts for it, never
# will: far longer than any call to the database may take.
STILL = 60.0
FROZEN_AFTER = 5.0  # seconds without a turn of a process's loop
REPLACED = "the worker process was replaced because of another job"
STOOD_STILL = (
    "the worker process stood still past a deadline and was killed: this job or another"
    " one that ran in it held it up"
)
NO_PROGRESS = "the worker process made no progress any more and was killed"


@dataclass
class Child:
    """A worker process as its supervisor sees it.

    Nothing here waits for it: it may be frozen, or a handler may hold its interpreter.
    """

    number: int
    name: str
    options: WorkerOptions
    worker_id: str
    memory: SharedMemory
    control: Control
    pipe: channel.SupervisorEnd
    process: SpawnProcess
    started: float
    ready: bool = False
    ready_at: float = math.inf  # monotonic seconds
    idle: bool = False
    retiring: bool = False
    done: bool = False
    quiet: bool = False
    job_types: list[str] | None = None
    dismissed: bool = False  # it was to end before it was ready
    failure: str | None = None  # why it could not load the handlers
    hushed: bool = False  # by a signal, of which its row does not tell yet
    stalled_for: float | None = None
    _given_up: bool = False
    # The processor's time that it had used when that was last seen to change, and when.
    _worked: tuple[str | None, float] = (None, 0.0)
    # When canceled attempts that run (job id, number) were first named to it.
    _canceled: dict[tuple[str, int], float] = field(default_factory=dict)
    # When leases were first seen to be gone by a process that does not turn.
    _gone: dict[str, float] = field(default_factory=dict)

    @property
    def is_spare(self) -> bool:
        """Whether it runs a suspect, and leases nothing."""
        return self.options.suspect is not None

    def is_answered(self) -> bool:
        """Say whether the database has answered a heartbeat for it: until then, its
        shared memory shows when it was started.
        """
        return self.memory.renewed_at() >= self.started

    def lacks_database(self, patience: float) -> bool:
        """Say whether, so many seconds after it was ready, the database has answered no
        heartbeat for it, or no statement of its own though it is meant to lease.
        """
        if self.is_spare or time.monotonic() - self.ready_at < patience:
            return False
        leases = self.shall_lease() and self.job_types != []
        return not self.is_answered() or (leases and not self.memory.has_reached())

    def shall_lease(self) -> bool:
        """Say whether it is meant to lease jobs."""
        return self.ready and not (self.quiet or self.retiring or self.is_spare)

    def wake(self) -> None:
        """Have it look for jobs, and at what it is told."""
        self.pipe.wake()

    def make_quiet(self, *, quiet: bool = True) -> None:
        """Have it lease nothing, now and after it has been replaced; or lease again."""
        if self.quiet == quiet or self.is_spare:
            return
        self.quiet = quiet
        if quiet:
            log.info(
                "%s: quiet, leasing nothing",
                self.name,
                extra={"event": "worker_quiet", "worker_id": self.name},
            )
        else:
            log.info(
                "%s: resumed, leasing again",
                self.name,
                extra={"event": "worker_resumed", "worker_id": self.name},
            )
        self.control.quiet(quiet)
        self.wake()

    def learn(self, row: Mapping[str, object], *, quiet: bool) -> None:
        """Do what its row says now, to which `row` has been sent.

        Unless a signal came meanwhile: that the next one tells.
        """
        if self.hushed and not row["hushed"]:
            return
        self.hushed = False
        self.make_quiet(quiet=quiet)

    def answer(self, number: int, *, taken: bool) -> None:
        """Answer its question about a suspect."""
        self.control.answer(number, taken=taken)
        self.wake()

    def cancel(self, job_ids: Collection[str]) -> None:
        """Name the canceled jobs among those it holds; it stops them."""
        now = time.monotonic()
        # Another dictionary, at once: the supervisor's own thread reads it.
        self._canceled = {
            key: self._canceled.get(key, now)
            for run in self.memory.running()
            if (key := (run.job_id, run.attempt_no)) in self._canceled
            or run.job_id in job_ids
        }
        self.control.cancel(job_ids)
        self.wake()

    def overrun(self, grace: float) -> tuple[list[RunningJob], list[RunningJob]]:
        """Return the runs that go on more than `grace` seconds after their deadline,
        or twice that after their cancellation or the loss of their lease, of which the
        process hears later: by then, one that does not turn cannot end them itself.
        """
        now, canceled = time.monotonic(), self._canceled
        turns = now - self.memory.turned_at() < 2 * grace
        lost = [] if turns else self.memory.gone()
        self._gone = {lease: self._gone.get(lease, now) for lease in lost}
        late, deaf = [], []
        for run in self.memory.running():
            told = min(
                canceled.get((run.job_id, run.attempt_no), math.inf),
                self._gone.get(run.lease_id, math.inf),
            )
            if now > told + 2 * grace:
                deaf.append(run)
            elif now > run.deadline + grace:
                late.append(run)
        return late, deaf

    def is_still(self) -> bool:
        """Say whether its loop, or that of one of its connections, turns no more, and
        no handler that holds the interpreter accounts for it.
        """
        if not self.ready:
            return False
        options, memory, now = self.options, self.memory, time.monotonic()
        most = (
            max(STILL, options.lease_seconds + 4 * options.connect_timeout)
            + 2 * options.poll
        )
        # While it imported its loop could not turn.
        turned = now - max(memory.turned_at(), self.ready_at)
        cycled = memory.cycled_at()
        if turned > most:
            return not memory.running()  # else their deadlines end it
        return turned < FROZEN_AFTER and bool(cycled) and now - cycled > most

    def culprit(self, late: Sequence[RunningJob]) -> RunningJob | None:
        """Return its late run if that is certainly late by its own doing.

        While a process stands still none of its handlers can end, and which of them
        holds it up cannot be seen: that a deadline has passed says nothing of its job,
        unless no other runs. A process that turns ends those that are late itself.
        """
        return late[0] if late and len(self.memory.running()) == 1 else None

    def drain(self) -> None:
        """Have it end after what runs."""
        self.control.drain()
        self.wake()

    def release(self) -> None:
        """Have it give back what runs, and end."""
        self.control.release()
        self.wake()

    def dump(self) -> None:
        """Have it log its stacks."""
        self.control.dump()
        self.wake()

    @classmethod
    def start(
        cls, options: WorkerOptions, number: int, remaining: Any, *, quiet: bool
    ) -> Child:
        """Start a worker process; `remaining` counts the jobs that all of them may
        still lease.

        Raises OSError, and leaves nothing behind, if the system refuses what it needs.
        """
        name = options.name_of(number)
        worker_id = str(uuid.uuid4())
        memory = SharedMemory.create(
            CONTEXT, runs=options.places, leases=options.places
        )
        memory.renew(time.monotonic())
        memory.turn()
        control = Control.create(CONTEXT, options.places)
        control.quiet(quiet)
        ours, theirs = channel.pair()
        try:
            process = CONTEXT.Process(
                target=worker.main,
                args=(options, worker_id, name, memory, control, theirs, remaining),
                name=f"pgflow-worker-{number}",
            )
            start_process(process)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        now = time.monotonic()
        return cls(
            number,
            name,
            options,
            worker_id,
            memory,
            control,
            ours,
            process,
            now,
            quiet=quiet,
        )

    def kill(self) -> None:
        """Kill it; from here on it runs no code of a handler's.

        Waits a second at most: what hangs in the kernel dies when it comes back.
        """
        self.process.kill()
        self.process.join(KILLED)
        if self.process.is_alive():
            leave_behind()

    def give_up_start(self) -> None:
        """Kill it if it is not ready and has stood still for `START` seconds: its place
        would stay vacant for ever.
        """
        if self.ready or self.is_spare or self._given_up:
            return
        now, worked = time.monotonic(), _processor_time(self.process.pid)
        if worked != self._worked[0] or not self._worked[1]:
            self._worked = worked, now
        if now < self._worked[1] + START:
            return
        self._given_up = True
        log.error(
            "%s is not ready and has stood still for %.0f s, and is killed: does an"
            " import of the handlers hang?",
            self.name,
            START,
            extra={"event": "process_stuck", "worker_id": self.name},
        )
        self.process.kill()

    def row(self) -> dict[str, object]:
        """Return its row of the workers table; times are seconds ago."""
        leased_at = self.memory.leased_at()
        return {
            "worker_id": self.worker_id,
            "pid": self.process.pid,
            "slots": self.options.concurrency,
            "busy_slots": len(self.memory.running()),
            "lease_seconds": max(1, round(self.options.lease_seconds)),
            "quiet": self.quiet or self.hushed,
            "hushed": self.hushed,
            "retiring": self.retiring,
            "spare": self.is_spare,
            "leased_ago": time.monotonic() - leased_at if leased_at else None,
            "stalled_for": self.stalled_for,
            "name": self.name,
            "host": socket.gethostname(),
            "code_version": self.options.code_version,
            "queues": self.options.queues,
            "job_types": self.job_types,
        }


def _processor_time(pid: int | None) -> str | None:
    """Return the processor's time that a process has used; None where it is unknown."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # After the name, which may hold anything: fields 14 and 15 are ours.
    return " ".join(told.rpartition(")")[2].split()[11:13])


def leave_behind() -> None:
    """Let our own end not wait for a process that hangs in the kernel, as
    multiprocessing would; our exit status stays what it is.
    """
    # Once, however many hang.
    atexit.unregister(_leave)
    atexit.unregister(util._exit_function)  # type: ignore[attr-defined]
    atexit.register(_leave)


def _leave() -> None:
    if not multiprocessing.active_children():
        util._exit_function()  # type: ignore[attr-defined]


def start_process(process: SpawnProcess) -> None:
    """Start a process so that no signal to our whole group ends it before it can say
    that it ignores them: its main function calls `precautions.ignore_signals` first.
    """
    if not hasattr(signal, "pthread_sigmask"):
        process.start()
        return
    # Its own start, at the first process, would unblock what is blocked here.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, safeguards.group_signals())
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cause(code: int | None) -> str:
    """Name an exit code or a signal."""
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
