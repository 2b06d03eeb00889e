"""How a log record is written: one line for each event, as JSON or as text.

Whatever a message or a field holds, it cannot end the line, control a terminal or show
a password. Nothing that a handler logs can make the writing itself fail.
"""

from __future__ import annotations

import json
import logging
import math
import re
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime

from pgflow_cli.formats import error_text, safe_text

FIELDS = (
    "worker_id",
    "queue",
    "job_id",
    "job_type",
    "attempt_no",
    "latency_ms",
    "error_code",
    "reason_code",
    "trace_id",
)
"""Fields of a line if they apply, besides ts, level, event and logger."""

# The event of lines by handlers and libraries; pgflow's own lines name theirs.
PLAIN = "log"

_LONGEST = 8192  # characters of one text
_DEEPEST = 6  # levels of nested values and exception groups that a line shows
_LONGEST_CHAIN = 8  # exceptions
_MOST_FRAMES = 30  # frames of a traceback that a line shows, the innermost ones
_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}")
_BARE = re.compile(r"[!#-<>-\[\]-~]+")
_HEAD = ("ts", "level", "event", "logger", "message", "traceback")
# Attributes that every record has; any other was given as `extra` and is a field.
_OWN = {*vars(logging.makeLogRecord({})), *_HEAD, "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object per event; ASCII, so that nothing in a message can forge a line
    or reach a terminal.
    """

    def __init__(self, **fields: str) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": _moment(record).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "event": _event(record),
            "logger": record.name,
            "message": _message(record),
            **_ordered({**self._fields, **_extra(record)}),
        }
        if (told := _traceback(record)) is not None:
            line["traceback"] = told
        return json.dumps(line)


class TextLines(logging.Formatter):
    """Time, level, message, then the fields; control characters are shown, never sent.

    For a person at a terminal (`tall`) the lines of a traceback follow, each marked so
    that none can be taken for an event; else they stand in the line itself.
    """

    def __init__(self, *, tall: bool = False, **fields: str) -> None:
        super().__init__()
        self._tall = tall
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        known = {**self._fields, **_extra(record), "event": _event(record)}
        shown = [
            f"{name}={_value(known[name])}"
            for name in ("event", *FIELDS)
            if known.get(name) is not None
        ]
        head = f"{self._time(record)} {record.levelname.lower():7} {_message(record)}"
        lines = ["  ".join((safe_text.neutral(head), " ".join(shown)))]
        if (told := _traceback(record)) is not None:
            if self._tall:
                lines += [f"  | {safe_text.neutral(t)}" for t in told.splitlines()]
            else:
                lines[0] += f" traceback={_value(told)}"
        return "\n".join(lines)

    def _time(self, record: logging.LogRecord) -> str:
        at = _moment(record)
        if self._tall:
            return at.astimezone().strftime("%H:%M:%S.%f")[:-3]
        return at.isoformat(timespec="milliseconds")[:-6] + "Z"


def story(error: BaseException, depth: int = 0) -> Iterator[str]:
    """Yield the lines of a traceback, the first cause first.

    It is Python's format, except that the error of a database driver is cut to the
    server's message: its DETAIL prints whole rows with payloads.
    """
    for number, link in enumerate(_chain(error)):
        if number:
            yield "which led to:"
        yield "Traceback (most recent call last):"
        # The innermost frames: a recursion has thousands.
        for frame in traceback.format_tb(link.__traceback__, limit=-_MOST_FRAMES):
            yield from frame.splitlines()
        yield error_text.describe(link)
        if isinstance(link, BaseExceptionGroup) and depth < _DEEPEST:
            for inner in link.exceptions[:_LONGEST_CHAIN]:
                yield from (f"  {line}" for line in story(inner, depth + 1))


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and its causes, the first cause first."""
    found: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(found) < _LONGEST_CHAIN:
        if any(link is known for known in found):
            break
        found.insert(0, link)
        context = None if link.__suppress_context__ else link.__context__
        link = link.__cause__ or context
    return found


def _traceback(record: logging.LogRecord) -> str | None:
    if not record.exc_info or record.exc_info[1] is None:
        return None
    # Of a long chain only the end, which has the last error.
    return safe_text.redact("\n".join(story(record.exc_info[1])))[-4 * _LONGEST :]


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _event(record: logging.LogRecord) -> str:
    event = getattr(record, "event", None)
    known = isinstance(event, str) and _EVENT.fullmatch(event)
    return str(event) if known else PLAIN


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:
        text = str(record.msg)  # its arguments do not fit
    return _cut(safe_text.redact(text[: 2 * _LONGEST]))


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {
        key: _plain(value)
        for key, value in vars(record).items()
        if key not in _OWN and not key.startswith("_")
    }


def _ordered(fields: dict[str, object]) -> dict[str, object]:
    first = {name: fields[name] for name in FIELDS if fields.get(name) is not None}
    return {**first, **fields}


def _plain(value: object, depth: int = 0) -> object:
    """Return a value of JSON; any other value becomes text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < _DEEPEST and isinstance(value, dict):
        return {_text(k): _plain(v, depth + 1) for k, v in list(value.items())}
    if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [_plain(part, depth + 1) for part in list(value)]
    return _text(value)


def _text(value: object) -> str:
    return _cut(safe_text.redact(error_text.excerpt(value, limit=_LONGEST)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _value(value: object) -> str:
    """Return a field's value as one word, quoted if it is not one."""
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)
