"""Threads: pgflow's own, those that stand for as long as their process does, and those
that handlers start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pgflow_cli import handlers
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.handlers import outcomes
from pgflow_cli.handlers.job import current

log = logging.getLogger("pgflow.supervisor")

_LONGEST_PAUSE = 5.0  # seconds before one that keeps ending is started again
_STEADY = 30.0  # seconds after which an end counts as the first


class OwnThread(threading.Thread):
    """A thread of pgflow's own in a worker process, which is no use without it."""


def remember_jobs() -> None:
    """Have each thread that a handler starts remember its job, for the log."""
    start = threading.Thread.start

    def start_with_job(thread: threading.Thread) -> None:
        job = current.get()
        if job is not None:
            vars(thread)["_pgflow_job"] = handlers.fields(job)
        start(thread)

    threading.Thread.start = start_with_job  # type: ignore[method-assign, assignment]


def job_of(thread: threading.Thread | None) -> dict[str, object]:
    """Return the log fields of the job that started a thread, if one did."""
    found = None if thread is None else vars(thread).get("_pgflow_job")
    return found if isinstance(found, dict) else {}


class StandingThread:
    """Runs `target` in a thread until it returns; if it fails, it is run again: a
    process without its heartbeat would look healthy and lose every lease.
    """

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        self.name, self._target = name, target
        self._thread: threading.Thread | None = None
        self._started = self._again = 0.0
        self._ends = 0
        self._done = False

    def attend(self) -> None:
        """Start it unless it runs; after a pause if it has failed just now."""
        now = monotonic()
        if self._thread is not None:
            if self._thread.is_alive() or self._done:
                return
            self._thread = None
            self._ends = 0 if now - self._started > _STEADY else self._ends
            self._postpone(now, "the thread %s has failed, again in %g s")
        if now >= self._again:
            self._start(now)

    def join(self, seconds: float) -> None:
        """Wait for its end, so long at most."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _start(self, now: float) -> None:
        thread = threading.Thread(
            target=self._run, name=f"pgflow-{self.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self._postpone(now, "cannot start the thread %s, again in %g s")
        else:
            self._thread, self._started = thread, now

    def _run(self) -> None:
        self._target()
        self._done = True

    def _postpone(self, now: float, words: str) -> None:
        pause = outcomes.doubling(self._ends, longest=_LONGEST_PAUSE)
        self._ends += 1
        self._again = now + pause
        log.error(words, self.name, pause, extra={"event": "thread_postponed"})
