"""Computes fingerprints of failures: jobs that failed for the same cause have the same
one. Pure.

`f1-` and 8 hex digits of a hash over job type, error code, exception class, the three
innermost application frames and the message with everything blanked that differs from
job to job. `f1` is the version of this rule: a change to it makes new fingerprints, so
it must get a new name. When in doubt it splits: two groups with one cause cost an
operator a glance, one group with two causes a wrong replay.
"""

from __future__ import annotations

import hashlib
import json
import linecache
import re
import sysconfig
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

VERSION = "f1"
# Innermost application frames in a fingerprint: callers further out differ without
# another cause.
FRAMES = 3
_READ = 2_000  # characters of the message that count

_LIBRARY = tuple(
    {
        sysconfig.get_path(name)
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)


class Frame(NamedTuple):
    """A place in the code that survives a deploy: no path and no line number.

    `line` is the text of the line that was running, of the innermost frame only. It
    tells two bugs in one function apart; an edit elsewhere in the file does not change
    it.
    """

    module: str
    function: str
    line: str = ""


def fingerprint(
    job_type: str,
    error_code: str,
    *,
    error_class: str = "",
    frames: Iterable[Frame] = (),
    message: str = "",
) -> str:
    """Return the fingerprint of one failure."""
    parts = [
        job_type,
        error_code,
        error_class,
        [list(f) for f in frames],
        blanked(message),
    ]
    text = json.dumps(parts)
    return f"{VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def frames_of(traceback: TracebackType | None, *, home: str = "") -> list[Frame]:
    """Return the innermost application frames of a traceback, the innermost first.

    Frames of the standard library, of installed packages and of pgflow are passed over,
    except those of the top-level package `home`: an application may be installed too.
    If nothing else is left, any frame counts.
    """
    own: deque[TracebackType] = deque(maxlen=FRAMES)
    every: deque[TracebackType] = deque(maxlen=FRAMES)
    while traceback is not None:
        every.append(traceback)
        if _is_application(traceback, home):
            own.append(traceback)
        traceback = traceback.tb_next
    chosen = list(reversed(own or every))
    return [_frame(entry, with_line=place == 0) for place, entry in enumerate(chosen)]


def _is_application(entry: TracebackType, home: str) -> bool:
    package = _module(entry).partition(".")[0]
    if home and package == home:
        return True
    file = entry.tb_frame.f_code.co_filename
    return package != "pgflow_cli" and not file.startswith((*_LIBRARY, "<frozen "))


def _frame(entry: TracebackType, *, with_line: bool) -> Frame:
    code = entry.tb_frame.f_code
    line = ""
    if with_line:
        line = linecache.getline(
            code.co_filename, entry.tb_lineno, entry.tb_frame.f_globals
        )
    return Frame(_module(entry), code.co_qualname, " ".join(line.split()))


def _module(entry: TracebackType) -> str:
    name = entry.tb_frame.f_globals.get("__name__")
    return name if isinstance(name, str) else entry.tb_frame.f_code.co_filename


# Applied in this order: text that a rule replaces is hidden from later rules.
_BLANKS = (
    (re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://\S+"), "<url>"),
    # An apostrophe inside a word ("can't", 'O'Brien') neither opens nor closes a quote.
    (re.compile(r"(?<!\w)'.{0,500}?'(?!\w)", re.DOTALL), "<quoted>"),
    (
        re.compile(r'"[^"]{0,500}"|`[^`]{0,500}`|“[^”]{0,500}”|«[^»]{0,500}»'),
        "<quoted>",
    ),
    (re.compile(r"[\w.+-]{1,100}@[\w-]{1,100}\.[\w.-]{1,100}"), "<address>"),
    # Absolute, relative to ~ or a dot, or with two separators: "and/or" is no path.
    (
        re.compile(r"(?<![\w/\\])(?:[A-Za-z]:|~|\.{1,2})?(?:[\\/][\w.@+~-]+)+[\\/]?"),
        "<path>",
    ),
    (re.compile(r"(?<![\w/])[\w.-]+(?:/[\w.-]+){2,}"), "<path>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (
        re.compile(
            r"\b(?:0x[0-9a-fA-F]+|(?=[a-fA-F]*\d)[0-9a-fA-F]{6,}|[a-f]{8,}|[A-F]{8,})\b"
        ),
        "<id>",
    ),
    # Long words of letters and digits are keys; in short ones ("order7", "utf8") the
    # letters mean something.
    (re.compile(r"\b(?=[A-Za-z_]*\d)(?=\d*[A-Za-z_])\w{10,}\b"), "<id>"),
    (re.compile(r"[-+]?\d+(?:[.,:]\d+)*"), "#"),
    (re.compile(r"\s+"), " "),
)


def blanked(message: str) -> str:
    """Return a message without what differs from job to job: ids, numbers, quotes, …"""
    text = message[:_READ]
    for pattern, blank in _BLANKS:
        text = pattern.sub(blank, text)
    return text.strip()
