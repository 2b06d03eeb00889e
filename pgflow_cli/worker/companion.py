"""A process that a supervisor keeps running beside its workers, such as the admin
server: it may crash, hang or be slow, and no lease expires.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any

from pgflow_cli.handlers import outcomes
from pgflow_cli.worker.process import CONTEXT, KILLED, cause, start_process
from pgflow_cli.worker.safeguards import hide_memory, ignore_signals

log = logging.getLogger("pgflow.supervisor")

_LONGEST_PAUSE = 30.0  # seconds before one that keeps ending is started again
_STEADY = 30.0  # seconds after which an end counts as the first
_LAST_SECONDS = 5.0
_SHORTAGE = 5.0  # seconds until one that could not be started is tried again


class Tie:
    """What a companion knows of its supervisor: whether it lives, whether it turns."""

    def __init__(self, beat: Any, pipe: connection.Connection) -> None:
        self._beat = beat
        self._pipe = pipe

    def turned_at(self) -> float:
        """Return when the supervisor's loop last turned, on the monotonic clock; now,
        as long as it has not turned at all.
        """
        return float(self._beat.value) or time.monotonic()

    def is_cut(self) -> bool:
        """Whether the supervisor has ended, or wants us to."""
        return self._pipe.poll()


@dataclass
class Companion:
    """Runs `target(*arguments, tie)` in a process of its own, and again when it ends.

    The target returns once the tie is cut.
    """

    name: str
    target: Callable[..., None]
    arguments: tuple[Any, ...]
    _beat: Any = field(default_factory=lambda: CONTEXT.Value("d", 0.0, lock=False))
    _pipe: connection.Connection | None = None
    _process: SpawnProcess | None = None
    _started: float = 0.0
    _again: float = 0.0
    _ends: int = 0

    def start(self) -> None:
        """Start the process; if the system refuses, `attend` tries again."""
        try:
            ours, theirs = CONTEXT.Pipe()
            process = CONTEXT.Process(
                target=_run,
                args=(self.target, self.arguments, self._beat, theirs),
                name=f"pgflow-{self.name}",
                daemon=True,
            )
            try:
                start_process(process)
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
        except OSError as error:
            self._again = time.monotonic() + _SHORTAGE
            log.error(  # noqa: TRY400 - the sentence is all there is to know
                "cannot start the %s: %s; again in %g s",
                self.name,
                error.strerror or error,
                _SHORTAGE,
                extra={"event": "process_not_started"},
            )
        else:
            self._process, self._pipe = process, ours
            self._started = time.monotonic()

    def attend(self) -> None:
        """Tell it that the loop turns; restart it if it has ended, after a second at
        first, after 30 if it keeps ending.
        """
        now = time.monotonic()
        self._beat.value = now
        if self._process is not None and not self._process.is_alive():
            log.error(
                "the %s ended: %s; it is started again",
                self.name,
                cause(self._process.exitcode),
                extra={"event": "companion_died"},
            )
            self._ends = 0 if now - self._started > _STEADY else self._ends + 1
            self._again = now + outcomes.doubling(
                max(0, self._ends - 1), longest=_LONGEST_PAUSE
            )
            self._forget()
        if self._process is None and now >= self._again:
            self.start()

    def stop(self) -> None:
        """Let it finish what it is doing, for five seconds at most."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join(_LAST_SECONDS)
            if self._process.is_alive():
                self._process.kill()
                self._process.join(KILLED)
        self._process = self._pipe = None

    def _forget(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _run(
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    beat: Any,
    pipe: connection.Connection,
) -> None:
    # A signal to the whole group is for the supervisor: it ends us when all is done.
    ignore_signals()
    hide_memory()
    target(*arguments, Tie(beat, pipe))
