"""One leased job in this process, from its lease to its settlement."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from pgflow_cli import handlers
from pgflow_cli.handlers import Handler, Job, Outcome
from pgflow_cli.handlers.tasks import AttemptTask
from pgflow_cli.models.jobs import LeasedJob
from pgflow_cli.telemetry import spans


class Run:
    """One leased job in this process. Times are monotonic seconds; 0 until they are
    known.

    One is made for each job, and few of its fields ever differ from their defaults:
    these are the class's own.
    """

    started: float = 0.0
    ended: float = 0.0
    worked: float | None = None  # seconds of the processor, if they were measured
    place: int = -1
    job: Job | None = None
    task: AttemptTask | None = None
    limit: asyncio.Timeout | None = None  # of a coroutine; set off by `stop_late`
    is_late: bool = False  # that has been done
    # Seconds for which its event loop was blocked by other jobs, or its process stood
    # still; and those of the second kind.
    held_up: float = 0.0
    stood_still: float = 0.0
    put_off_at: float = 0.0  # when a standstill was last counted
    outcome: Outcome | None = None
    stopped: bool = False  # by the worker: what it does now is not its own fault
    # Whether its lease had run out before it ended; known once it is to be settled.
    stale: bool | None = None
    settled: bool = False  # by a statement of its own, with its followers
    refused: bool = False  # the database takes no outcome of it
    put_off: float | None = None  # seconds before one given back may be leased again
    canceled_at: float = 0.0  # when it was told that an operator has canceled it
    span: spans.Processing | None = None

    def __init__(
        self,
        leased: LeasedJob,
        handler: Handler,
        deliver: Callable[[Run], None],
        taken: float,
        timeout: float,
    ) -> None:
        self.leased = leased
        self.handler = handler
        self.deliver = deliver
        self.taken = taken
        self.timeout = timeout

    @property
    def deadline(self) -> float:
        """When its time is over, once it has started."""
        return self.started + self.timeout + self.held_up


@dataclass(slots=True)
class Waiting:
    """Jobs that have not started, in the order they came.

    A thread may take one without a lock meanwhile: whatever takes one out does it by
    one step of the interpreter, and has it alone.
    """

    threads: deque[Run] = field(default_factory=deque)
    coroutines: deque[Run] = field(default_factory=deque)

    def __iter__(self) -> Iterator[Run]:
        return iter([*self.threads, *self.coroutines])

    def add(self, runs: Iterable[Run]) -> None:
        """Put jobs behind the others."""
        for run in runs:
            kind = run.handler.kind
            (self.coroutines if kind == "async" else self.threads).append(run)

    def remove(self, run: Run) -> bool:
        """Take out a job; False if a thread has just taken it."""
        for queue in (self.threads, self.coroutines):
            with suppress(ValueError):
                queue.remove(run)
                return True
        return False


def _end_span(run: Run) -> None:
    if run.span is not None and run.outcome is not None:
        run.span.end(
            handlers.told_apart(run.outcome),
            error_code=run.outcome.error_code,
            reason_code=run.outcome.dlq_reason_code,
        )
