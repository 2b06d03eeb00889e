"""Runs one prepared job and turns the end of its handler into an outcome."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Callable
from typing import Any

from pgflow_cli.formats import error_text
from pgflow_cli.handlers import outcomes
from pgflow_cli.handlers.exceptions import PayloadError, Signal
from pgflow_cli.handlers.forks import EndForks
from pgflow_cli.handlers.handler import Handler
from pgflow_cli.handlers.job import Job, current
from pgflow_cli.handlers.outcomes import Outcome
from pgflow_cli.telemetry import trace_context


def run(handler: Handler, job: Job) -> Outcome:
    """Run a job's function in this thread. Never raises.

    SystemExit and RecursionError, too, end one job. The time limit is the caller's
    business, for a thread cannot be stopped from within.
    """
    # In a context of its own: what a handler leaves in context variables must not reach
    # the thread's next job.
    return contextvars.copy_context().run(_run, handler, job)


async def run_async(
    handler: Handler,
    job: Job,
    *,
    limit: asyncio.Timeout | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run a job's coroutine and cancel it at its time limit, or when the maker of
    `limit` sets that off. Never raises.

    A job whose task the worker has canceled (`is_stopped`) is released once its handler
    has ended. Any other cancellation comes from the handler's own code or a library and
    is a failure.
    """
    _enter(job)
    limit = limit or asyncio.timeout(job.timeout)
    try:
        async with limit:
            with EndForks():
                result = await _call(handler, job)
            ended = _ended(handler, job, result)
    except BaseException as error:
        if limit.expired():
            return outcomes.timed_out(handler, job)
        if isinstance(error, asyncio.CancelledError) and is_stopped():
            return outcomes.released("the attempt was stopped before it ended")
        return _failed(handler, job, error)
    finally:
        job.over = True
    # A handler that swallowed the cancellation has timed out, whatever it did
    # afterwards.
    return outcomes.timed_out(handler, job) if limit.expired() else ended


def _run(handler: Handler, job: Job) -> Outcome:
    _enter(job)
    try:
        with EndForks():
            result = _call(handler, job)
        if result is None and not job._followers:  # nearly all
            return outcomes.SUCCEEDED
        return _ended(handler, job, result)
    except BaseException as error:
        return _failed(handler, job, error)


def _enter(job: Job) -> None:
    current.set(job)
    if job.trace is not None:
        trace_context.carried.set(job.trace)
    job.begin()


def _call(handler: Handler, job: Job) -> Any:
    if handler.function is None:
        raise TypeError("a program is run by executables.run")
    if handler.decode is None:
        return handler.function(job)
    return handler.function(job, job.argument)


def _ended(handler: Handler, job: Job, result: object) -> Outcome:
    """Return the outcome of a function that returned.

    Its return value is ignored, unless it must be a mistake.
    """
    if result is None:
        pass
    elif isinstance(result, Signal):
        raise result  # returned instead of raised; a success would hide it
    elif inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("the handler returned an awaitable; declare it with async def")
    if not job.followers:
        return outcomes.SUCCEEDED
    return Outcome("succeeded", followers=job.followers)


def _failed(handler: Handler, job: Job, error: BaseException) -> Outcome:
    outcome = outcomes.conclude(handler, job, error)
    if not isinstance(error, Signal | PayloadError):
        # The traceback is for the log; the message in the database stays a sentence.
        with contextlib.suppress(Exception):
            job.log.warning(
                "handler raised: %s",
                outcome.error_message,
                exc_info=_loggable(error, outcome.error_message or ""),
                extra={"event": "handler_error", "error_code": outcome.error_code},
            )
    return outcome


def _loggable(error: BaseException, message: str) -> BaseException:
    """Return the exception for the log, or its place and an excerpt of its text.

    One whose text is huge, or cannot be written, would take the log line with it.
    """
    if len(message) < error_text.LIMIT // 4 and "\ufffd" not in message:
        return error
    return RuntimeError(message).with_traceback(error.__traceback__)
