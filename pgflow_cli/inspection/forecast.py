"""Forecasts whether and when a queue drains, from the counts of a time window. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pgflow_cli.formats import times
from pgflow_cli.formats.words import plural

# Fewer arrivals and completions than this are chance: there is no forecast.
ENOUGH = 20

EMPTY, DRAINING, STEADY, GROWING, UNKNOWN = (
    "empty", "draining", "steady", "growing", "unknown",
)  # fmt: skip
# The verdict of a queue report for a queue without a live worker: it will not drain,
# whatever happened in the window.
UNSERVED = "unserved"


@dataclass(frozen=True, slots=True)
class Drain:
    """The forecast of a queue if arrivals and completions go on as they are.

    `seconds` until it is empty: 0 if it is empty, None unless it drains. `per_minute`
    is the change of its depth. `workers_needed` is how many more workers of the same
    kind would let it drain; None if unknown. The figures are from the arrivals and
    completions of the last `window` seconds, `samples` in all.
    """

    verdict: str
    seconds: float | None
    per_minute: float
    workers_needed: int | None
    window: float
    samples: int


def forecast(
    depth: int,
    arrivals_per_second: float,
    completions_per_second: float,
    samples: int,
    workers: int,
    window: float,
) -> Drain:
    """Return the forecast of a queue with `runnable` jobs.

    A completion is a job that left the queue for good: succeeded, dead-lettered,
    canceled.
    """
    growth = arrivals_per_second - completions_per_second
    verdict = _verdict(depth, growth, samples, _noise(samples, window))
    needed = None
    if verdict == GROWING and workers and completions_per_second * window >= 1:
        each = completions_per_second / workers
        needed = math.floor(growth / each) + 1
    seconds = {EMPTY: 0.0, DRAINING: depth / -growth if growth < 0 else None}
    return Drain(verdict, seconds.get(verdict), growth * 60, needed, window, samples)


def sentence(drain: Drain) -> str:
    """Return the forecast as a sentence, with its time window."""
    window = times.format_duration(drain.window)
    if drain.verdict == UNKNOWN:
        return f"unknown (only {drain.samples} jobs came or went in the last {window})"
    if drain.verdict == EMPTY:
        return "empty"
    if drain.verdict == STEADY:
        return f"neither drains nor grows (over the last {window})"
    if drain.verdict == DRAINING:
        return f"drains in ~{_about(drain.seconds or 0.0)} (over the last {window})"
    n = drain.workers_needed
    needs = f", needs about {plural(n, 'more worker')}" if n else ""
    rate = f"+{_rounded(drain.per_minute)}/min"
    return f"will not drain: {rate}{needs} (over the last {window})"


def word(drain: Drain) -> str:
    """Return the forecast for a cell: `0s`, `42m`, `steady`, `never` or nothing."""
    if drain.verdict in (EMPTY, DRAINING):
        return times.format_duration(math.ceil(drain.seconds or 0.0))
    return {STEADY: "steady", GROWING: "never"}.get(drain.verdict, "")


def _verdict(depth: int, growth: float, samples: int, noise: float) -> str:
    if depth == 0:
        return EMPTY
    if samples < ENOUGH:
        return UNKNOWN
    if abs(growth) <= noise:
        return STEADY
    return GROWING if growth > 0 else DRAINING


def _noise(samples: int, window: float) -> float:
    """Return the difference of rates that chance alone may cause.

    Two independent (Poisson) counts differ by about the root of their sum; twice that
    is rare.
    """
    return 2 * math.sqrt(samples) / window if window > 0 else math.inf


def _about(seconds: float) -> str:
    """Return `42 min`: one unit, because a forecast is not more exact."""
    for size, unit in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            number = round(seconds / size)
            return f"{number:,} {unit}{'s' if unit == 'day' else ''}"
    return f"{max(1, math.ceil(seconds))} s"


def _rounded(per_minute: float) -> str:
    return f"{per_minute:,.0f}" if per_minute >= 1 else f"{per_minute:.1g}"
