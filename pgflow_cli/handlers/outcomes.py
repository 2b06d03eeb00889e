"""Outcomes of attempts: success, retry with a back-off, or dead letter."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pgflow_cli.formats import error_text
from pgflow_cli.handlers import error_codes, fingerprints
from pgflow_cli.handlers.exceptions import (
    NO_DELAY,
    Fail,
    PayloadError,
    Retry,
    Snooze,
    UnknownJobType,
    seconds,
)
from pgflow_cli.handlers.handler import Handler
from pgflow_cli.models.jobs import LeasedJob

NON_RETRYABLE = "NON_RETRYABLE"
MAX_ATTEMPTS_EXCEEDED = "MAX_ATTEMPTS_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: `status` is succeeded, failed, snoozed, released, canceled.

    A failed job either has a `delay` in seconds and runs again, or a `dlq_reason_code`
    and does not. A released job was not at fault: its attempt is recorded and not
    counted. A canceled one was settled by the operator who canceled it. `followers` are
    jobs to enqueue with the success, as bodies.
    """

    status: str
    delay: float | None = None
    dlq_reason_code: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_fingerprint: str | None = None
    followers: tuple[dict[str, object], ...] = ()


EVENTS = {
    "succeeded": "job_succeeded",
    "retried": "job_retried",
    "dlq": "job_dlq",
    "snoozed": "job_snoozed",
    "released": "job_released",
    "canceled": "job_canceled",
    "lost": "job_lost",
}
"""The log event of each end of an attempt, by the outcome that metrics count."""

SUCCEEDED = Outcome("succeeded")
CANCELED = Outcome("canceled")


def conclude(handler: Handler, job: Any, error: BaseException) -> Outcome:
    """Return the outcome of an attempt that ended with an exception.

    Never raises, whatever the exception does. `job` is a Job or its LeasedJob.
    """
    leased: LeasedJob = getattr(job, "leased", job)
    try:
        return _concluded(handler, leased, error)
    except BaseException as failure:
        message = (
            f"an exception that cannot be examined: {error_text.class_name(failure)}"
        )
        return failed(handler, leased, error_codes.UNKNOWN, message)


def timed_out(handler: Handler, job: Any, *, because: str = "") -> Outcome:
    """Return the outcome of an attempt whose time is over; tells a Job so."""
    leased: LeasedJob = getattr(job, "leased", job)
    limit = time_limit(handler, leased)
    if leased is not job:
        job.canceled.set()
        limit = job.timeout
    return failed(handler, leased, "TIMEOUT", f"no result within {limit:g} s{because}")


def refused(handler: Handler, leased: LeasedJob, reason: str) -> Outcome:
    """Return the outcome of an attempt whose own outcome the database refused."""
    message = f"the database refused the outcome of this attempt: {reason}"
    return failed(handler, leased, "OUTCOME_REFUSED", message)


def released(message: str, *, delay: float = 0.0) -> Outcome:
    """Return the outcome of an attempt that ended through no fault of the job."""
    return Outcome("released", delay=delay, error_message=error_text.excerpt(message))


BROKEN_LOOP = (
    "the event loop of its process broke: by this job's doing, or another's in it"
)


def broken_loop(
    handler: Handler, leased: LeasedJob, crash_budget: int, *, alone: bool
) -> Outcome:
    """Return the outcome of an attempt whose event loop broke. If it ran there `alone`
    it has failed; else it is lost, because the cause may be any of them.
    """
    if alone:
        return failed(handler, leased, error_codes.UNKNOWN, BROKEN_LOOP)
    return lost(leased, BROKEN_LOOP, crash_budget=crash_budget)


HELD_UP = (
    "its process stood still again and again: this job or another one that ran in it"
    " held it up"
)


def lost(leased: LeasedJob, message: str, *, crash_budget: int) -> Outcome:
    """Return the outcome of an attempt that its own code, or another job of its
    process, has ended; which of them is unknown.
    """
    spent = leased.lost_attempts + 1 >= crash_budget
    return Outcome(
        "lost",
        delay=None if spent else 0.0,
        dlq_reason_code="CRASH_LOOP" if spent else None,
        error_code="WORKER_LOST",
        error_message=message,
    )


def failed(
    handler: Handler,
    leased: LeasedJob,
    code: str,
    message: object,
    *,
    retried: bool | None = None,
    delay: float | None = None,
    fingerprint: str | None = None,
) -> Outcome:
    """Return the outcome of a failed attempt: a retry or a dead letter.

    `retried` None asks the code's class, `delay` None the back-off.
    """
    if retried is None:
        retried = error_codes.is_retried(code, handler.declared)
    text = error_text.excerpt(message)
    reason = None
    if not retried:
        reason, delay = NON_RETRYABLE, None
    elif leased.failed_attempts + 1 >= leased.max_attempts:
        reason, delay = MAX_ATTEMPTS_EXCEEDED, None
    elif delay is None:
        delay = _backoff(handler, leased.failed_attempts + 1)
    return Outcome(
        "failed",
        delay=delay,
        dlq_reason_code=reason,
        error_code=code,
        error_message=text,
        error_fingerprint=fingerprint
        or fingerprints.fingerprint(leased.job_type, code, message=text),
    )


def time_limit(handler: Handler, leased: LeasedJob) -> float:
    """Return the seconds one attempt may take: the job's own limit wins."""
    return handler.timeout if leased.timeout_ms is None else leased.timeout_ms / 1000


def event_of(outcome: Outcome) -> str:
    """Return the log event of an outcome."""
    return EVENTS[told_apart(outcome)]


def told_apart(outcome: Outcome) -> str:
    """Return an outcome's status; a failure is either retried or dlq."""
    if outcome.dlq_reason_code is not None:
        return "dlq"
    return "retried" if outcome.status == "failed" else outcome.status


def _concluded(handler: Handler, leased: LeasedJob, error: BaseException) -> Outcome:
    given, retried, delay = _verdict(handler, error)
    if isinstance(error, Snooze) and delay is not None:
        return Outcome("snoozed", delay=delay)
    message = "; ".join(filter(None, [_message(error), _delay_mistake(error)]))
    code = given if error_codes.is_code(given) else error_codes.UNKNOWN
    if code is not given:
        shown = error_text.excerpt(given, limit=200)
        message = f"{message} (its error code {shown!r} is not of the form A-Z0-9_)"
    return failed(
        handler,
        leased,
        code,
        message,
        retried=retried,
        delay=delay,
        fingerprint=fingerprints.fingerprint(
            leased.job_type,
            code,
            error_class=error_text.class_name(error),
            frames=fingerprints.frames_of(error.__traceback__, home=handler.home),
            message=message,
        ),
    )


def _verdict(
    handler: Handler, error: BaseException
) -> tuple[object, bool | None, float | None]:
    """Return an exception's code, whether it is retried, and the delay it asks for.

    None: by the code's class, by the back-off.
    """
    if isinstance(error, Fail):
        return _given(error.code, NON_RETRYABLE), False, None
    if isinstance(error, Retry):
        return _given(error.code, "RATE_LIMIT"), True, seconds(error.after)
    if isinstance(error, Snooze):
        return error_codes.UNKNOWN, True, seconds(error.delay)
    if isinstance(error, PayloadError):
        return "BAD_PAYLOAD", None, None
    if isinstance(error, UnknownJobType):
        return "UNKNOWN_JOB_TYPE", None, None
    return error_codes.code_of(error, handler.errors), None, None


def _delay_mistake(error: BaseException) -> str:
    """Return a sentence if the delay that the handler has given is invalid."""
    if isinstance(error, Snooze):
        asked: object = error.delay
    elif isinstance(error, Retry) and error.after is not None:
        asked = error.after
    else:
        return ""
    if seconds(asked) is not None:
        return ""
    shown = error_text.excerpt(asked, limit=200)
    return f"{type(error).__name__}({shown!r}) {NO_DELAY}"


def _given(code: object, default: str) -> object:
    return default if code is None else code


def _message(error: BaseException) -> str:
    if isinstance(error, Fail | Retry):
        # The cause of `raise Retry(…) from error` is the error.
        if error.message in ("", None) and error.__cause__ is not None:
            return error_text.describe(error.__cause__)
        return error_text.excerpt(error.message or "")
    if isinstance(error, Snooze):
        return ""
    if isinstance(error, PayloadError | UnknownJobType):
        return error_text.excerpt(error)
    if isinstance(error, asyncio.CancelledError):
        return "the handler's task was canceled, and not by the worker"
    return error_text.describe(error)


def _backoff(handler: Handler, failures: int) -> float:
    """Return the handler's own delay if it is valid, else the built-in back-off."""
    if handler.backoff is not None:
        try:
            asked = handler.backoff(failures)
            own = seconds(asked)
            if own is None:
                raise ValueError(f"{asked!r} {NO_DELAY}")
        except Exception:
            logging.getLogger("pgflow.jobs").exception(
                "the back-off of %s failed; the built-in one is used",
                handler.job_type,
                extra={"event": "backoff_failed", "job_type": handler.job_type},
            )
            own = None
        if own is not None:
            return own
    return backoff_delay(failures)


FIRST = 2.0  # seconds of delay after the first failure
CAP = 900.0  # seconds of the longest delay
SPREAD = 0.2  # of the centre, to either side

# No exponent beyond this changes the result, and 2 ** 10,000 is no float.
_DOUBLINGS = 30


def backoff_delay(
    failures: int, *, chance: Callable[[], float] = random.random
) -> float:
    """Return seconds to wait after so many failed attempts.

    2 s doubling, at most 15 min, ±20 %.

    With `chance` uniform in [0, 1):

        centre = min(2 s · 2^(failures − 1), 15 min / 1.2)
        delay  = centre · (0.8 + 0.4 · chance())

    So the nth failure waits 1.6–2.4 s, 3.2–4.8 s, … and from the tenth on 10–15 min.
    The centre is capped, not the result: a result cut at the cap would put half of the
    late retries on one instant. Equal spread around a centre is preferred to full
    jitter (0 … 2 · centre), which retries some jobs at once and tells an operator
    nothing about when.
    """
    doublings = min(max(failures, 1) - 1, _DOUBLINGS)
    centre = min(FIRST * 2.0**doublings, CAP / (1 + SPREAD))
    return min(centre * (1 - SPREAD + 2 * SPREAD * chance()), CAP)


def doubling(failures: int, *, longest: float) -> float:
    """Return 1 s, doubled with each failure so far, at most `longest`."""
    return min(longest, 2.0 ** min(failures, _DOUBLINGS))
