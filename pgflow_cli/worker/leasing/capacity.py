"""When queues with a limit are asked for jobs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from pgflow_cli import handlers
from pgflow_cli.formats.clock import monotonic, sleep
from pgflow_cli.handlers import App
from pgflow_cli.models.jobs import LeasedJob, Suspect
from pgflow_cli.telemetry.counters import Counters
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.execution.slots import Slots
from pgflow_cli.worker.leasing.cursors import Cursors
from pgflow_cli.worker.leasing.doubts import Doubts
from pgflow_cli.worker.leasing.suspects import Suspects
from pgflow_cli.worker.options import BATCHES, WorkerOptions
from pgflow_cli.worker.shared_memory import SharedMemory

PAUSE = 1.0  # seconds between two questions that get nothing


class Gates:
    """Spares questions that get nothing; the connections of a process share it.

    While limits are spent one is asked every `PAUSE` seconds: it writes the decision
    that holds the jobs back. One is asked at once when a job of such a queue was
    settled here, or a look has seen a limit with room: then others have freed it.
    """

    def __init__(self) -> None:
        self._ask_at = 0.0
        self._queues: set[str] = set()

    def may_ask(self, now: float) -> bool:
        """Say whether a question is likely to get something, or due."""
        return now >= self._ask_at

    def asked(self, now: float, queues: set[str], *, filled: bool) -> None:
        """Learn from an answer: jobs of these queues; `filled`: as many as there was
        room for.
        """
        self._queues |= queues
        self._ask_at = 0.0 if filled else now + PAUSE

    def open(self) -> None:
        """Ask at once."""
        self._ask_at = 0.0

    def knows(self, queue: str) -> bool:
        """Say whether jobs came from there: one that is settled leaves room."""
        return queue in self._queues


HORIZON = 0.1  # seconds of work that may wait in memory
LOCKED = 0.1  # seconds to wait for the count that all processes share


class Capacity:
    """The account that a process's connections share: room, jobs in flight, suspects.

    `quiet` leases nothing; `ending` also gives back what has not started. `woken` is
    set when the supervisor says that there is something new, `idle` when a look behind
    the cursors found nothing.
    """

    def __init__(
        self,
        options: WorkerOptions,
        memory: SharedMemory,
        app: App,
        slots: Slots,
        remaining: Any,
    ) -> None:
        self.options, self.memory, self.slots = options, memory, slots
        self.cursors = Cursors()
        self.doubts = Doubts(options.lease_seconds)
        self.gates = Gates()
        self.counters = Counters()
        # Without handlers, and of a spare process, whatever it is told.
        self._mute = not app.handlers or options.suspect is not None
        self.quiet = self._mute
        self._ended = threading.Event()
        self.idle = False
        self.woken = threading.Event()
        self._handlers = app.handlers
        self._types = None if options.on_unknown == "dlq" else sorted(app.handlers)
        # With a budget of one loss any job is a suspect, and more than a spare process
        # could run: here they run one by one.
        self._alone = options.crash_budget == 1
        self._began = monotonic()
        # Jobs that all processes together may still lease; -1 without a limit.
        self._remaining = remaining
        self._lock = threading.Lock()
        self._in_flight = 0
        self._reserved = 0
        self._asked = 0  # statements sent that may lease
        self.has_batch = False  # the one of --once, which is run to its end
        self._settling = 0  # outcomes on their way to the database
        self._owed = 0  # jobs to give back to what all processes may still lease
        self.suspects = Suspects(keeps=options.once)
        self._more = False
        self._helpers: list[threading.Event] = []

    # Help.

    @property
    def more(self) -> bool:
        """Whether there is more to lease than one connection can carry."""
        return self._more

    @more.setter
    def more(self, more: bool) -> None:
        self._more = more
        if more:
            for helper in self._helpers:
                helper.set()

    def offer_help(self, event: threading.Event) -> None:
        """Set the event whenever there is more."""
        self._helpers.append(event)

    @property
    def ending(self) -> bool:
        """Whether nothing more is leased, and what has not started is given back."""
        return self._ended.is_set()

    @ending.setter
    def ending(self, ending: bool) -> None:
        if ending:
            self._ended.set()
        else:
            self._ended.clear()

    def rest(self, seconds: float) -> None:
        """Wait, but not past the moment that the process begins to end."""
        if self.ending:
            sleep(seconds)
        else:
            self._ended.wait(seconds)

    def make_quiet(self, *, quiet: bool) -> None:
        """Lease nothing from now on, or lease again."""
        if self.quiet and not (quiet or self._mute):
            self.idle = False  # it has not looked meanwhile
        self.quiet = quiet or self._mute

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
            capacity = self._capacity()
            if not self._alone:
                most = BATCHES * self.options.batch_size
                capacity += self.slots.prefetch(HORIZON, most)
            # One suspect takes no room: it waits for a spare process, not for a slot.
            capacity += min(1, len(self.suspects))
            room = capacity - (self._in_flight - self._settling) - self._reserved
            room = min(room, self.options.batch_size)
            if room < at_least:
                return 0
            room = self._spend(room)
            self._reserved += room
            return room

    def reserve_slots(self) -> int:
        """Reserve room for jobs that count against a limit while they wait in memory.

        As many as could start at once, but one even so: they must not starve beside
        a queue that fills the memory. `confirm` must follow.
        """
        room = self.reserve(0)
        free = self._capacity() - (self._in_flight - self._settling)
        spare = room - min(room, max(1, free))
        self.confirm(spare, 0, batch=False)
        return room - spare

    def confirm(
        self,
        room: int,
        settling: int,
        *,
        leased: int = 0,
        settled: int = 0,
        batch: bool = True,
    ) -> None:
        """Turn what was announced and reserved into what came of it.

        `batch`: this was the one batch that --once asks for.
        """
        with self._lock:
            self._reserved -= room
            self._settling -= settling
            self._in_flight += leased - settled
            self._spend(leased - room)
            if self.options.once and room and batch:
                self.has_batch = True

    def ask(self) -> None:
        """Take note that a statement is about to be sent that may lease."""
        with self._lock:
            self._asked += 1
            self.memory.show_drained(0.0)

    def begin_search(self, room: int) -> int | None:
        """Return the argument of `found_nothing` for a look that begins now, by a
        connection that has reserved `room`; None if a job is held, or a statement of
        another connection may lease one.
        """
        with self._lock:
            held = self._in_flight or self._reserved != room
            return None if held else self._asked

    def found_nothing(self, search: int | None, began: float) -> None:
        """Show that nothing was left when a look began: unless something was leased
        meanwhile.
        """
        with self._lock:
            if search is not None and search == self._asked:
                self.memory.show_drained(began)

    def _capacity(self) -> int:
        slots = 1 if self._alone else self.options.concurrency
        return slots - self.slots.stuck

    def _may_lease(self) -> bool:
        healthy = self.memory.renewed_at() + self.options.lease_seconds > monotonic()
        able = healthy and not self.slots.is_short()
        return able and not (self.quiet or self.ending or self.has_batch)

    def _spend(self, jobs: int) -> int:
        """Take so many from what all processes may still lease, or give some back.

        Returns how many there were to take. Taken when room is reserved: two
        connections must not both lease the last job.
        """
        if not self.options.max_jobs or not (jobs or self._owed):
            return jobs
        lock, left = self._remaining.get_lock(), self._remaining.get_obj()
        if not lock.acquire(timeout=LOCKED):
            # Its holder is frozen, or was killed; the supervisor frees it then.
            self._owed -= min(0, jobs)
            return 0
        try:
            left.value += self._owed
            self._owed = 0
            taken = min(jobs, left.value)
            left.value -= taken
            return int(taken)
        finally:
            lock.release()

    def leasable_types(self) -> list[str] | None:
        """Return the job types to lease now; None: any."""
        if self._types is None:
            return None
        full = self.slots.full_types()
        return [t for t in self._types if t not in full] if full else self._types

    # Jobs.

    def accept(
        self, jobs: list[LeasedJob], deliver: Callable[[Run], None], now: float
    ) -> None:
        """Queue leased jobs; keep suspects for a spare process, unless this is it."""
        runs: list[Run] = []
        suspects: list[Run] = []
        known, unknown = self._handlers.get, handlers.UNKNOWN
        apart = self.options.suspect is None and not self._alone
        age = now - self._began
        losses = self.options.losses_of_suspect(age) if apart else math.inf
        for job in jobs:
            handler = known(job.job_type) or unknown
            timeout = (
                handler.timeout if job.timeout_ms is None else job.timeout_ms / 1000
            )
            run = Run(job, handler, deliver, now, timeout)
            (runs if job.lost_attempts < losses else suspects).append(run)
        if suspects:
            with self._lock:
                self.suspects.add(suspects)
        self.slots.submit(runs)

    def attend_suspects(
        self, answer: tuple[int, bool], worker_id: str, *, leaving: bool
    ) -> tuple[int, Suspect] | None:
        """Give back the suspects that have been taken over, or must wait for others.

        Returns the question for the supervisor, if any. `leaving`: give all back.
        """
        number, taken = answer
        with self._lock:
            done, refused = self.suspects.attend(number, taken=taken)
            left = self.suspects.clear() if leaving else []
            question = self.suspects.question(worker_id)
            # They will be leased again, and count then.
            self._owed += len(refused) + len(left)
        self.give_back([*([done] if done else []), *refused, *left])
        return question

    def give_back(self, runs: list[Run]) -> None:
        """Hand in jobs that have not started, for others to run."""
        for run in runs:
            run.deliver(run)

    def cancel(self, job_ids: set[str]) -> None:
        """Stop jobs that an operator has canceled, started or not."""
        with self._lock:
            chosen = self.suspects.remove(job_ids)
        for run in chosen:
            run.outcome = handlers.CANCELED
        self.give_back(chosen)
        self.slots.cancel(job_ids)

    def is_drained(self) -> bool:
        """Say whether nothing is left to lease: neither now, nor of the suspects that
        were put off for a moment.
        """
        return self.idle and monotonic() >= self.suspects.put_off_until

    def is_still(self) -> bool:
        """Say whether nothing more is leased, and no lease is on its way."""
        with self._lock:
            return self.quiet and not self._reserved

    def finished(self) -> bool:
        """Say whether nothing is held and nothing more will be taken."""
        limited = self.options.max_jobs is not None  # a spare process is not
        spent = limited and left_to_lease(self._remaining) == 0 and not self._owed
        held = self._in_flight or self._reserved or self.doubts.pressing(monotonic())
        return (self.ending or spent or self.has_batch) and not held


def left_to_lease(remaining: Any) -> int:
    """Return how many jobs all processes may still lease; -1 without a limit.

    Read without the lock: a process that is frozen or was killed may hold it.
    """
    return int(getattr(remaining, "get_obj", lambda: remaining)().value)
