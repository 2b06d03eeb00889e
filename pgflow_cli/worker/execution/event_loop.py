"""The event loop that all async handlers of a process share, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import os
import selectors
import sys
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from threading import get_ident
from typing import Any, NoReturn, TypeVarTuple

from pgflow_cli import handlers
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.handlers import Job, forks, tasks
from pgflow_cli.handlers.job import current
from pgflow_cli.worker.execution.threads import OwnThread

log = logging.getLogger("pgflow.worker")

_Arguments = TypeVarTuple("_Arguments")

# Methods that end the loop for every job; a handler that calls one fails.
_NOT_FOR_HANDLERS = ("close", "shutdown_asyncgens", "shutdown_default_executor", "stop")
_STEP = asyncio.Handle._run.__code__  # what runs a task's step, or a callback


@dataclass(frozen=True, slots=True)
class Blocked:
    """What two looks in a row have found in the loop: one step, without an await."""

    job: Job | None  # whose step it is, if that is known
    seconds: float  # since the last look
    lasted: float  # seconds since the first look; of a pause between two, one


class _Selector(selectors.DefaultSelector):
    """What the loop waits with; open for as long as it runs."""

    loop: asyncio.BaseEventLoop

    def close(self) -> None:
        if self.loop.is_running():
            _refuse("its selector")
        super().close()


if sys.platform == "win32":
    _Base = asyncio.ProactorEventLoop
else:
    _Base = asyncio.SelectorEventLoop


class _Loop(_Base):
    """A loop whose clock no handler replaces, that none marks as closed, and whose
    timers stay in the order of time.
    """

    def __init__(self) -> None:
        self._is_closed = False
        if sys.platform == "win32":
            super().__init__()
        else:
            selector = _Selector()
            selector.loop = self
            super().__init__(selector)

    @property
    def time(self) -> Callable[[], float]:
        return monotonic

    @property
    def _closed(self) -> bool:
        return self._is_closed

    @_closed.setter
    def _closed(self, closed: bool) -> None:
        if closed and self.is_running():
            _refuse("its state")
        self._is_closed = closed

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Arguments], object],
        *args: *_Arguments,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        if math.isnan(when):
            raise ValueError("no time is called nan")
        return super().call_at(when, callback, *args, context=context)


def keep_running_loops() -> None:
    """Have nothing but asyncio itself say which loop runs in a thread: without one,
    every coroutine of the loop would fail.
    """
    told = asyncio._set_running_loop

    def set_running_loop(loop: asyncio.AbstractEventLoop | None, /) -> None:
        caller = sys._getframe(1).f_globals.get("__name__")
        running = asyncio._get_running_loop()
        if isinstance(running, _Loop) and caller != "asyncio.base_events":
            _refuse("its thread")
        told(loop)

    for module in (asyncio, asyncio.events):
        setattr(module, "_set_running_loop", set_running_loop)  # noqa: B010


class SharedLoop:
    """An event loop that goes on, whatever the handlers do that share it.

    `on_closed` is called if one of them has closed it after all: nothing runs in it any
    more. Raises OSError or RuntimeError if the system refuses what it needs.
    """

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self._on_closed = on_closed
        self._ending = False
        self._ident: int | None = None
        self._step: asyncio.Handle | None = None  # that the last look has found
        self._step_lasted = self._looked_at = 0.0
        self._loop = loop = _Loop()
        loop.set_task_factory(tasks.make)  # type: ignore[arg-type]
        loop.set_exception_handler(_note)
        for name in _NOT_FOR_HANDLERS:
            setattr(loop, name, _refusing(name))
        if hasattr(os, "register_at_fork"):
            forked = weakref.WeakMethod(self._forked)
            os.register_at_fork(after_in_child=lambda: (f := forked()) and f())
        try:
            OwnThread(target=self._run, name="pgflow-async", daemon=True).start()
        except BaseException:
            type(loop).close(loop)
            raise

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the loop, from any thread; RuntimeError if it is closed.

        In a context of its own: what the job that has just ended has left in context
        variables must not reach the next one.
        """
        self._loop.call_soon_threadsafe(function, context=contextvars.Context())

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> tasks.AttemptTask:
        """Begin an attempt; in the loop."""
        context = contextvars.Context()
        return tasks.AttemptTask(coroutine, loop=self._loop, context=context)

    def cancel(self, task: tasks.AttemptTask) -> None:
        """Cancel an attempt as if its own job asked: what it waits for, and is another
        job's, goes on.
        """
        context = contextvars.Context()
        context.run(current.set, task.job)
        try:
            self._loop.call_soon_threadsafe(task.cancel, context=context)
        except RuntimeError:
            return  # it is closed: the task does not run

    def set_off(self, limit: asyncio.Timeout) -> None:
        """Have a time limit expire now."""

        def expire() -> None:
            with suppress(RuntimeError):  # it has ended meanwhile
                limit.reschedule(-math.inf)

        with suppress(RuntimeError):  # the loop is closed
            self.call(expire)

    def end(self) -> None:
        """Let the thread end; what runs is left alone."""
        self._ending = True
        try:
            self._loop.call_soon_threadsafe(type(self._loop).stop, self._loop)
        except RuntimeError:
            return

    def look(self, now: float) -> Blocked | None:
        """Say whether one step has blocked the loop since the last look."""
        last, before = self._step, self._looked_at
        self._step, self._looked_at = self._running_step(), now
        if self._step is None or self._step is not last:
            self._step_lasted = 0.0
            return None
        # After a longer pause the whole process, or machine, has stood still.
        self._step_lasted += min(now - before, 1.0)
        job = tasks.owner({"handle": self._step})
        return Blocked(job, now - before, self._step_lasted)

    def _running_step(self) -> asyncio.Handle | None:
        frame = sys._current_frames().get(self._ident or 0)
        found = None
        while frame is not None:
            if frame.f_code is _STEP:
                found = frame.f_locals["self"]  # the outermost: a handler may nest
            frame = frame.f_back
        return found

    def descriptors(self) -> list[int]:
        """Return the descriptors that the loop waits with."""
        parts = ("_selector", "_ssock", "_csock")  # of asyncio's own loops
        found: list[Any] = [getattr(self._loop, part, None) for part in parts]
        return [part.fileno() for part in found if hasattr(part, "fileno")]

    # The thread.

    def _forked(self) -> None:
        """Have a fork that a coroutine makes end at its next await: it would run the
        other jobs' coroutines, too.
        """
        ready = getattr(self._loop, "_ready", None)  # of asyncio's own loops
        if ready is None or get_ident() != self._ident:
            return
        ready.clear()
        refusal = RuntimeError("a forked process cannot await in its worker's loop")
        self._loop.call_soon(forks.end, refusal)  # in this turn
        setattr(self._loop, "_run_once", lambda: forks.end(refusal))  # noqa: B010

    def _run(self) -> None:
        self._ident = get_ident()
        while not self._ending:
            try:
                with forks.EndForks():
                    self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                log.warning(
                    "a handler left the event loop by %s; it goes on",
                    type(error).__name__,
                    extra={"event": "loop_error"},
                )
            except Exception as error:
                # It is closed, or what it waits with; not to be closed again, for those
                # descriptors may be another's by now.
                log.exception(
                    "the event loop has ended by %s",
                    type(error).__name__,
                    extra={"event": "loop_error"},
                )
                self._on_closed()
                return
        type(self._loop).close(self._loop)


def _refuse(what: str) -> NoReturn:
    raise RuntimeError(f"{what} is not for handlers: other jobs run in this event loop")


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        _refuse(f"loop.{name}()")

    return refuse


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Write one line about an error that no task waits for."""
    job = tasks.owner(context)
    # The job that happens to run while garbage is collected has no part in it.
    contextvars.Context().run(
        log.error,
        "%s",
        context.get("message") or "an error in the event loop",
        exc_info=context.get("exception"),
        extra={**(handlers.fields(job) if job else {}), "event": "loop_error"},
    )
