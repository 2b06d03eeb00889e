"""Exceptions that a handler raises to decide the outcome of its attempt."""

from __future__ import annotations

import math
from datetime import timedelta

from pgflow_cli.formats import times

MAX_DELAY = (
    3650 * 86400.0
)  # ten years: beyond it a run_at may leave the range that PostgreSQL's check allows

Delay = float | int | str | timedelta


class Signal(Exception):
    """The base class: the handler itself decides how its attempt ends.

    Constructing one never fails, whatever it is given.
    """


class Fail(Signal):
    """Give the job up: it becomes a dead letter and is not tried again.

    The code defaults to NON_RETRYABLE.
    """

    def __init__(self, code: str | None = None, message: str = "") -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Retry(Signal):
    """Fail this attempt and try again, after a delay of the handler's choice.

    The code defaults to RATE_LIMIT. If it was the job's last attempt, the job is
    dead-lettered. `after` is in seconds, or "30s", or a timedelta; without one the
    back-off decides, also if it is invalid, which the error message says. A negative
    delay counts as 0; the longest is ten years.
    """

    def __init__(
        self,
        after: Delay | None = None,
        code: str | None = None,
        message: str = "",
    ) -> None:
        super().__init__(after, code, message)
        self.after = after
        self.code = code
        self.message = message


class Snooze(Signal):
    """Run the job again later without counting this attempt.

    If the delay is invalid, the attempt has failed, and counts.
    """

    def __init__(self, delay: Delay) -> None:
        super().__init__(delay)
        self.delay = delay


class PayloadError(Exception):
    """The payload is not what the handler takes.

    The message names the field, and never holds its value.
    """


class UnknownJobType(Exception):
    """No handler takes this type of job, and such jobs are to be dead letters."""


NO_DELAY = "is no delay: seconds, a timedelta, or text such as 30s"


def seconds(value: object) -> float | None:
    """Return a delay in seconds, between 0 and ten years.

    None if it cannot be read, or is not finite.
    """
    try:
        number = _number(value)
    except Exception:
        return None
    if number is None or not math.isfinite(number):
        return None
    return min(max(number, 0.0), MAX_DELAY)


def _number(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)  # also "120", as Retry-After has it
    except ValueError:
        return times.parse_duration(str(value)).total_seconds()
