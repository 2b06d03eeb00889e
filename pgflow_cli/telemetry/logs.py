"""The log of a long-running process: its stream, its first line, and its rate
limits.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Iterable
from typing import Protocol

from pgflow_cli.formats.clock import monotonic
from pgflow_cli.telemetry.log_format import JsonLines, TextLines
from pgflow_cli.telemetry.log_writer import LineWriter

log = logging.getLogger("pgflow")


class Setting(Protocol):
    """A setting as `config show` prints it; secrets are masked."""

    @property
    def variable(self) -> str: ...
    @property
    def option(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def origin(self) -> str: ...


def set_up(
    form: str,
    level: str,
    *,
    processes: int = 1,
    worker_id: str | None = None,
    filters: Iterable[logging.Filter] = (),
) -> None:
    """Send the log to stderr; `form` is text, json, or auto: text on a terminal, else
    JSON lines.

    `worker_id` is put on every line; `filters` may add to it. `processes` is how many
    processes write to this log: together they repeat one trouble no more than once a
    second.
    """
    handler = LineWriter(sys.stderr)
    at_terminal = sys.stderr is not None and sys.stderr.isatty()
    fields = {} if worker_id is None else {"worker_id": worker_id}
    as_text = form == "text" or (form == "auto" and at_terminal)
    handler.setFormatter(
        TextLines(tall=at_terminal, **fields) if as_text else JsonLines(**fields)
    )
    for each in filters:
        handler.addFilter(each)
    handler.addFilter(OnceInAWhile(float(processes)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Otherwise they would have a format of their own.
    logging.captureWarnings(capture=True)
    threading.excepthook = note_thread


def take_dropped() -> int:
    """Return how many lines this process has dropped since the last call."""
    handlers = logging.getLogger().handlers
    return sum(h.take_dropped() for h in handlers if isinstance(h, LineWriter))


def say_stacks() -> None:
    """Write a line for each thread: where it is, the innermost call first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        calls = [
            f"in {each.f_code.co_name} ({each.f_code.co_filename}:{line})"
            for each, line in traceback.walk_stack(frame)
        ]
        log.warning(
            "stack of %s: %s",
            names.get(ident, ident),
            ", ".join(calls),
            extra={"event": "stack"},
        )


def trouble(event: str, error: BaseException) -> dict[str, object]:
    """Return the `extra` of a line about something that may fail again and again.

    Lines about one kind of error share one rate limit, whatever failed: an outage of
    the database stops everything at once.
    """
    kind = getattr(error, "exit_code", type(error).__name__)
    return {"event": event, "error_class": type(error).__name__, "_repeats": kind}


def limit(name: str) -> None:
    """Let all lines of a library's logger share one limit, as lines of `trouble` do."""
    logging.getLogger(name).addFilter(_mark)


def _mark(record: logging.LogRecord) -> bool:
    record._repeats = record.name
    return True


def say_settings(settings: Iterable[Setting]) -> None:
    """Write the first line of a long-running process: every setting in force."""
    known = list(settings)
    told = [
        f"{_name(each)}={each.value} ({each.origin})"
        for each in known
        if each.origin != "default"
    ]
    log.info(
        "settings: %s; what is not named has its default",
        ", ".join(told) or "none",
        extra={
            "event": "settings",
            "settings": {
                _name(each): {"value": each.value, "origin": each.origin}
                for each in known
            },
        },
    )


class OnceInAWhile(logging.Filter):
    """Passes one line about a repeated error every `seconds`; the next one says how
    many were left out.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._lock = threading.Lock()
        self._next: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = getattr(record, "_repeats", None)
        if kind is None:
            return True
        now = monotonic()
        with self._lock:
            at, left_out = self._next.get(kind, (now, 0))
            if now < at:
                self._next[kind] = at, left_out + 1
                return False
            self._next[kind] = now + self._seconds, 0
        if left_out:
            record.left_out = left_out
        return True


def _name(setting: Setting) -> str:
    return setting.variable or setting.option


def note_thread(args: threading.ExceptHookArgs) -> None:
    """Log that a thread has ended with an exception; a hook of `threading`."""
    if args.exc_type is not SystemExit and args.exc_value is not None:
        log.critical(
            "a thread has ended with %s: a bug",
            args.exc_type.__name__,
            exc_info=args.exc_value,
            extra={"event": "thread_failed"},
        )
