"""How values look on the page: each a filter of the templates; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pgflow_cli.admin.ui.queue_state import queue_state
from pgflow_cli.formats import safe_text, times
from pgflow_cli.formats.words import plural, short_id

LONGEST = 4096  # characters of a payload or message, unless all are asked for
_MARKS = {
    "queued": "■",
    "scheduled": "◷",
    "running": "▶",
    "succeeded": "✓",
    "dlq": "✕",
    "canceled": "–",
    "nowhere": "!",
    "failed": "✕",
    "lost": "✕",
    "finished": "✓",
    "stopped": "■",
    "undone": "–",
    "done": "✓",
    "unfinished": "…",
    "OK": "✓",
    "WARN": "!",
    "FAIL": "✕",
    "busy": "▶",
    "idle": "○",
    "quiet": "–",
    "retiring": "–",
    "starting": "…",
    "restarting": "✕",
    "spare": "▶",
    "stalled": "✕",
    "silent": "✕",
}
_TONES = {
    "running": "info",
    "succeeded": "good",
    "finished": "good",
    "OK": "good",
    "busy": "good",
    "idle": "good",
    "dlq": "bad",
    "nowhere": "bad",
    "failed": "bad",
    "lost": "bad",
    "FAIL": "bad",
    "silent": "bad",
    "WARN": "warn",
    "quiet": "warn",
    "retiring": "warn",
    "starting": "warn",
    "restarting": "bad",
    "spare": "warn",
    "stalled": "bad",
    "stopped": "warn",
    "unfinished": "warn",
    "undecided": "warn",
}
_BAR_WIDTH, _BARS_HEIGHT = 8, 20


def moment(value: datetime | str) -> datetime | None:
    """Return an instant; facts of a job have theirs as text, which may be infinite."""
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def iso(value: datetime | str) -> str:
    """Return an instant for programs: the attribute of a time element."""
    found = moment(value)
    return str(value) if found is None else times.format_iso(found)


def exact(value: datetime | str) -> str:
    """Return an instant in UTC, to the second, as persons write it."""
    found = moment(value)
    if found is None:
        return str(value)
    return f"{found.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def relative(value: datetime | str, now: datetime) -> str:
    """Return how long ago an instant was, or in how long it will be."""
    found = moment(value)
    return str(value) if found is None else times.format_relative(found, now)


def span(seconds: float | None) -> str:
    """Return a length of time; a dash if there is none."""
    return "–" if seconds is None else times.format_duration(float(seconds))


def took(milliseconds: float | None) -> str:
    """Return how long something took."""
    return span(None if milliseconds is None else milliseconds / 1000)


def number(value: float | None) -> str:
    """Return a number with its thousands apart; a dash if there is none."""
    return "–" if value is None else f"{value:,}"


def skew(seconds: float) -> str:
    """Return by how much a clock is ahead, with its sign."""
    length = times.format_duration(abs(seconds))
    return length if length == "0s" else f"{'-' if seconds < 0 else '+'}{length}"


def dash(text: str) -> str:
    """Return text, a dash for what nothing is known of."""
    return "–" if text in ("", "-") else text


def percent(part: float | None) -> str:
    """Return a share that is given in percent."""
    return "–" if part is None else f"{part:.1f} %"


def share(part: float) -> str:
    """Return a part of one in percent."""
    return percent(part * 100)


def mark(state: str | None) -> str:
    """Return the sign that stands before the name of a state."""
    return _MARKS.get(state or "", "·")


def tone(state: str | None) -> str:
    """Return the colour of a state; the name and the sign say the same."""
    return _TONES.get(state or "", "calm")


def plain(text: object) -> str:
    """Return text in one line whose control characters are visible."""
    return safe_text.neutral(str(text))


def lines(text: str) -> str:
    """Return text of several lines whose other control characters are visible."""
    return safe_text.neutral_lines(text)


def bars(steps: Sequence[int]) -> list[dict[str, int]]:
    """Return the rectangles of a sparkline."""
    most = max([1, *steps])
    return [
        {
            "x": place * (_BAR_WIDTH + 2),
            "y": _BARS_HEIGHT - height,
            "width": _BAR_WIDTH,
            "height": height,
        }
        for place, step in enumerate(steps)
        for height in (max(1, round(step * _BARS_HEIGHT / most)),)
    ]


def fact(value: object) -> str:
    """Return a value of a decision's details as persons write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else plain(value)


FILTERS: Mapping[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        bars, dash, exact, fact, iso, lines, mark, number, percent, plain, plural,
        queue_state, relative, share, short_id, skew, span, tone, took,
    )
}  # fmt: skip
