"""Error codes: what each means for the job, and what an operator should do.

Also the rules that map an exception to a code.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from pgflow_cli.errors import ConfigurationError, Refused

UNKNOWN = "UNKNOWN"

_FORM = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A row of `pgflow.error_codes`; `retry_class` is retry, never or crash_budget."""

    code: str
    retry_class: str
    suggested_action: str


BUILT_IN: Mapping[str, ErrorCode] = {
    code: ErrorCode(code, retry_class, action)
    for code, retry_class, action in (
        ("TIMEOUT", "retry", "Allow more time or do less; check downstream latency."),
        (
            "DEPENDENCY_DOWN",
            "retry",
            "Wait, check the dependency's health, then replay; consider a fallback.",
        ),
        (
            "RATE_LIMIT",
            "retry",
            "Slow down: honour Retry-After, lower rate and concurrency.",
        ),
        (
            "DB_DEADLOCK",
            "retry",
            "Harmless once; lock rows in one order, shorten transactions.",
        ),
        (
            "SERIALIZATION",
            "retry",
            "Harmless once; fewer concurrent writers or, where safe, lower isolation.",
        ),
        (
            "PANIC",
            "retry",
            "Read the crash output; if it always happens, raise `Fail`.",
        ),
        (
            "UNKNOWN",
            "retry",
            "Read message and logs, then map the exception to a code.",
        ),
        (
            "BAD_PAYLOAD",
            "never",
            "Fix the producer, or mend the payload: `replay --patch`.",
        ),
        ("UNKNOWN_JOB_TYPE", "never", "Deploy the handler or correct the job_type."),
        (
            "NON_RETRYABLE",
            "never",
            "The handler gave up: read the message, fix, replay.",
        ),
        (
            "NOT_STARTED",
            "retry",
            "Make the file executable, fix its first line (`pgflow work --check`).",
        ),
        (
            "OUTCOME_REFUSED",
            "retry",
            "Mend what refused it in the database (a trigger, a constraint), replay.",
        ),
        (
            "PAYLOAD_TOO_LARGE",
            "retry",
            "A job that it enqueues: store the data elsewhere, or raise that limit.",
        ),
        (
            "ENQUEUE_RATE_EXCEEDED",
            "retry",
            "Jobs that it enqueues: enqueue them more slowly, or raise that limit.",
        ),
        (
            "TOO_MANY_QUEUES",
            "retry",
            "Find what makes up queue names; or raise the bound: `queues bound`.",
        ),
        (
            "TASK_CANCELED",
            "retry",
            "Find what cancels the handler's own task: its code, a library, a timeout.",
        ),
        (
            "UNREADABLE",
            "never",
            "Its row in pgflow.jobs is damaged: restore it, enqueue it again, discard.",
        ),
        (
            "WORKER_LOST",
            "crash_budget",
            "Look for memory kills, hangs, clock skew.",
        ),
    )
}

_BY_CLASS: Mapping[type[BaseException], str] = {
    TimeoutError: "TIMEOUT",
    ConnectionError: "DEPENDENCY_DOWN",
    asyncio.CancelledError: "TASK_CANCELED",
}
_BY_SQLSTATE = {
    "40P01": "DB_DEADLOCK",
    "40001": "SERIALIZATION",
    # Errors of pgflow's enqueue functions, if a handler calls them itself.
    "PF001": "PAYLOAD_TOO_LARGE",
    "PF002": "ENQUEUE_RATE_EXCEEDED",
    "PF003": "TOO_MANY_QUEUES",
}


def is_code(value: object) -> TypeGuard[str]:
    """Tell whether a value has the form of an error code."""
    return isinstance(value, str) and _FORM.fullmatch(value) is not None


def own(code: str, *, retry: bool, action: str) -> ErrorCode:
    """Return an application's own code; raises ConfigurationError."""
    if not is_code(code):
        raise ConfigurationError(
            f"error code {code!r} is not of the form A-Z, then A-Z 0-9 _, at most 64"
        )
    if code in BUILT_IN:
        raise ConfigurationError(f"error code {code} is pgflow's own; choose another")
    return ErrorCode(code, "retry" if retry else "never", action)


def is_retried(code: str, declared: Mapping[str, ErrorCode]) -> bool:
    """Tell whether a failure with this code is tried again; an undeclared code is."""
    known = BUILT_IN.get(code) or declared.get(code)
    return known is None or known.retry_class != "never"


def code_of(error: BaseException, mapped: Mapping[type[BaseException], str]) -> str:
    """Return the code of an exception.

    The handler's own mapping comes first, by the nearest class; then the built-in
    rules.
    """
    for error_class in type(error).__mro__:
        if error_class in mapped:
            return mapped[error_class]
    if isinstance(error, Refused) and error.reason_code in BUILT_IN:
        return error.reason_code
    for sqlstate in _database_codes(error):
        if sqlstate in _BY_SQLSTATE:
            return _BY_SQLSTATE[sqlstate]
    if _http_status(error) == 429:
        return "RATE_LIMIT"
    for error_class, code in _BY_CLASS.items():
        if isinstance(error, error_class):
            return code
    return UNKNOWN


def _database_codes(error: BaseException) -> list[str]:
    """Return the SQLSTATEs of a driver's error, or of one that SQLAlchemy has wrapped.

    By name, so that no driver is imported.
    """
    found = []
    for holder in (error, _attribute(error, "orig")):
        for name in ("sqlstate", "pgcode"):
            value = _attribute(holder, name)
            if isinstance(value, str):
                found.append(value)
    return found


def _http_status(error: BaseException) -> int | None:
    """Return the HTTP status of an error of urllib, requests, httpx or aiohttp."""
    response = _attribute(error, "response")
    for holder, name in ((response, "status_code"), (error, "code"), (error, "status")):
        value = _attribute(holder, name)
        if isinstance(value, int):
            return value
    return None


def _attribute(holder: object, name: str) -> object:
    try:
        return getattr(holder, name, None)
    except Exception:
        return None
