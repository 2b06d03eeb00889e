"""Keeps an application's log handlers from pgflow's own code: they may raise, or never
return.

A record of pgflow's loggers goes to pgflow's own writer at once. A separate thread
passes it to the application's handlers, so that no other thread of pgflow waits for
them.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from pgflow_cli.formats import error_text
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.telemetry.log_writer import LineWriter

# Records that may wait for the application's handlers; later ones are dropped.
MOST = 1000
# Seconds that a record may wait for a handler before the log says so.
SLOW = 5.0
# Loggers that pgflow's own threads write to; others are the application's business.
_GUARDED = {"pgflow", "py.warnings", "psycopg", "asyncio", "concurrent"}
_OF_HANDLERS = "pgflow.jobs"  # written to in the handlers' own threads, as `job.log`


class _Handed(NamedTuple):
    """A record for the application, and the handlers that get it if the filters pass
    it.
    """

    context: contextvars.Context  # that of its writer: filters may read it
    logger: logging.Logger
    record: logging.LogRecord
    handlers: list[logging.Handler]

    def hand_over(self) -> None:
        record: Any = self.record
        try:
            passed: Any = self.logger.filter(record)
        except BaseException as error:
            _tell(f"a filter of the logger {self.logger.name}", _raised(error))
            return
        if isinstance(passed, logging.LogRecord):
            record = passed
        for handler in self.handlers if passed else ():
            try:
                if record.levelno >= handler.level:
                    handler.handle(record)
            except BaseException as error:  # SystemExit, too, would end our thread
                _tell(_named(handler), _raised(error))


class Courier:
    """Passes records to the application's handlers, one after another, in its own
    thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Handed] = deque()
        self._thread: threading.Thread | None = None
        self._current: _Handed | None = None
        self._since = 0.0
        self._owner = os.getpid()

    def send(self, handed: _Handed) -> None:
        """Queue a record for the application; it is dropped if too many wait
        already.
        """
        if os.getpid() != self._owner:
            handed.hand_over()  # a handler's fork, which has none of our threads
            return
        with self._changed:
            current, since = self._current, self._since
            if len(self._waiting) < MOST and self._is_running():
                self._waiting.append(handed)
                self._changed.notify_all()
        if current is not None and monotonic() - since > SLOW:
            _tell_slow(" or ".join(_named(h) for h in current.handlers))

    def flush(self, seconds: float) -> None:
        """Wait until all records are passed on, for a limited time."""
        with self._changed:
            self._changed.wait_for(
                lambda: not (self._waiting or self._current), seconds
            )

    def _is_running(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(
                target=self._run, name="pgflow-log-handlers", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no thread to be had: the next record tries again
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._current = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                self._current = handed = self._waiting.popleft()
                self._since = monotonic()
            with suppress(BaseException):
                handed.context.run(handed.hand_over)


_courier = Courier()
_told: set[str] = set()


def install() -> None:
    """Keep these loggers from waiting for the application's handlers and from raising
    their errors.

    Patches the class, because modules that are loaded later make loggers, too.
    """
    logging.Logger.handle = _handling(logging.Logger.handle)  # type: ignore[method-assign]
    logging.Logger.makeRecord = _making(logging.Logger.makeRecord)  # type: ignore[method-assign]


def _handling(handle: Callable[..., None]) -> Callable[..., None]:
    writer = _our_writer()
    before = None if writer is None else ([*writer.filters], writer.formatter)

    def guarded_handle(logger: logging.Logger, record: logging.LogRecord) -> None:
        if not _is_guarded(logger):
            handle(logger, record)
            return
        if logger.disabled:
            return
        found = _handlers_of(logger)
        # Filters and formatters of the application apply to its own handlers only.
        if (
            writer in found
            and before == (writer.filters, writer.formatter)
            and record.levelno >= writer.level
            and not logger.filters
        ):
            with suppress(BaseException):
                writer.handle(record)
            found.remove(writer)
        if found:
            _courier.send(_Handed(contextvars.copy_context(), logger, record, found))

    return guarded_handle


def _making(make_record: Callable[..., Any]) -> Callable[..., Any]:
    def guarded_make(logger: logging.Logger, *args: Any, **rest: Any) -> Any:
        if not _is_guarded(logger):
            return make_record(logger, *args, **rest)
        if logger.name == _OF_HANDLERS:
            try:
                return make_record(logger, *args, **rest)
            except KeyError:
                raise  # a field of `extra` that every record has: the handler's mistake
            except BaseException as error:
                _tell("the log record factory", _raised(error))
        # Not by a factory of the application's, which may block, too.
        return _plain_record(*args, **rest)

    return guarded_make


def _is_guarded(logger: logging.Logger) -> bool:
    return logger.name.partition(".")[0] in _GUARDED


def flush(seconds: float) -> None:
    """Pass the waiting records to the application's handlers, for a limited time."""
    _courier.flush(seconds)


def _plain_record(
    name: str,
    level: int,
    path: str,
    line: int,
    message: object,
    args: Any,
    exc_info: Any,
    function: str | None = None,
    extra: Any = None,
    stack: str | None = None,
) -> logging.LogRecord:
    record = logging.LogRecord(
        name, level, path, line, message, args, exc_info, function, stack
    )
    vars(record).update(extra or {})
    return record


def _handlers_of(logger: logging.Logger) -> list[logging.Handler]:
    found: list[logging.Handler] = []
    at: logging.Logger | None = logger
    while at is not None:
        found += at.handlers
        at = at.parent if at.propagate else None
    return found


def _our_writer() -> LineWriter | None:
    handlers = logging.getLogger().handlers
    return next((h for h in handlers if isinstance(h, LineWriter)), None)


def _named(handler: logging.Handler) -> str:
    kind = type(handler)
    return f"the log handler {kind.__module__}.{kind.__qualname__}"


def _raised(error: BaseException) -> str:
    return f"has raised {error_text.describe(error)}"


def _tell_slow(what: str) -> None:
    if what not in _told:
        # The application may have changed our own handler so that it blocks.
        with suppress(RuntimeError):
            threading.Thread(
                target=_tell,
                args=(what, f"has not returned for {SLOW:g} s"),
                daemon=True,
            ).start()


def _tell(what: str, how: str) -> None:
    """Report an error of the application's handlers once, on pgflow's own stream."""
    if what in _told:
        return
    _told.add(what)
    with suppress(BaseException):
        text = f"{what} {how}; pgflow goes on without it"
        record = logging.makeLogRecord(
            {
                "name": "pgflow.worker",
                "levelname": "ERROR",
                "levelno": logging.ERROR,
                "msg": "%s",
                "args": (text,),
                "event": "log_handler_failed",
            }
        )
        _write(record, text)


def _write(record: logging.LogRecord, text: str) -> None:
    if (writer := _our_writer()) is not None:
        with suppress(BaseException):
            writer.handle(record)
            return
    # The application has taken our handler away, or given it a formatter that fails.
    os.write(2, f"{text}\n".encode(errors="backslashreplace"))
