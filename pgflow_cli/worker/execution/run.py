"""One leased job in this process, from its lease to its settlement."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pgflow_cli import handlers
from pgflow_cli.handlers import Handler, Job, Outcome
from pgflow_cli.handlers.tasks import AttemptTask
from pgflow_cli.models.jobs import LeasedJob
from pgflow_cli.telemetry import spans


@dataclass(slots=True, eq=False)
class Run:
    """One leased job in this process. Times are monotonic seconds; 0 until they are
    known.
    """

    leased: LeasedJob
    handler: Handler
    deliver: Callable[[Run], None]
    taken: float
    timeout: float
    started: float = 0.0
    ended: float = 0.0
    worked: float | None = None  # seconds of the processor, if they were measured
    place: int = -1
    job: Job | None = None
    task: AttemptTask | None = None
    limit: asyncio.Timeout | None = None  # of a coroutine; set off by `stop_late`
    is_late: bool = False  # that has been done
    held_up: float = 0.0  # seconds for which other jobs have blocked its event loop
    outcome: Outcome | None = None
    over: bool = False
    stopped: bool = False  # by the worker: what it does now is not its own fault
    # Whether its lease had run out before it ended; known once it is to be settled.
    stale: bool | None = None
    settled: bool = False  # by a statement of its own, with its followers
    refused: bool = False  # the database takes no outcome of it
    put_off: float | None = None  # seconds before one given back may be leased again
    canceled_at: float = 0.0  # when it was told that an operator has canceled it
    span: spans.Processing | None = None

    @property
    def deadline(self) -> float:
        """When its time is over, once it has started."""
        return self.started + self.timeout + self.held_up


@dataclass(slots=True)
class _Waiting:
    threads: deque[Run] = field(default_factory=deque)
    coroutines: deque[Run] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self.threads) + len(self.coroutines)


def _end_span(run: Run) -> None:
    if run.span is not None and run.outcome is not None:
        run.span.end(
            handlers.told_apart(run.outcome),
            error_code=run.outcome.error_code,
            reason_code=run.outcome.dlq_reason_code,
        )
