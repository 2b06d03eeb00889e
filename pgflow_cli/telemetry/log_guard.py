"""Keeps what an application's log handlers raise from pgflow's own code."""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from pgflow_cli.formats import error_text
from pgflow_cli.telemetry.log_writer import LineWriter

# Loggers that pgflow's own threads write to; others are the application's business.
_GUARDED = {"pgflow", "py.warnings", "psycopg", "asyncio", "concurrent"}

_told: set[str] = set()


def install() -> None:
    """Have these loggers pass over what handlers, filters and formatters raise.

    By the class: modules that are loaded later make loggers, too.
    """
    handle, call_handlers = logging.Logger.handle, logging.Logger.callHandlers

    def guarded_handle(logger: logging.Logger, record: logging.LogRecord) -> None:
        if not _is_guarded(logger):
            handle(logger, record)
            return
        try:
            handle(logger, record)
        except BaseException as error:
            _tell(f"a filter of the logger {logger.name}", error)

    def guarded_call(logger: logging.Logger, record: logging.LogRecord) -> None:
        if not _is_guarded(logger):
            call_handlers(logger, record)
            return
        for handler in _handlers_of(logger):
            _hand_to(handler, record)

    logging.Logger.handle = guarded_handle  # type: ignore[method-assign, assignment]
    logging.Logger.callHandlers = guarded_call  # type: ignore[method-assign, assignment]


def _is_guarded(logger: logging.Logger) -> bool:
    return logger.name.partition(".")[0] in _GUARDED


def _handlers_of(logger: logging.Logger) -> list[logging.Handler]:
    found: list[logging.Handler] = []
    at: logging.Logger | None = logger
    while at is not None:
        found += at.handlers
        at = at.parent if at.propagate else None
    return found


def _hand_to(handler: logging.Handler, record: logging.LogRecord) -> None:
    try:
        if record.levelno >= handler.level:
            handler.handle(record)
    except BaseException as error:  # SystemExit, too, would end our thread
        kind = type(handler)
        _tell(f"the log handler {kind.__module__}.{kind.__qualname__}", error)


def _tell(what: str, error: BaseException) -> None:
    """Say once what has failed, on our own stream."""
    if what in _told:
        return
    _told.add(what)
    with suppress(BaseException):
        text = (
            f"{what} has raised {error_text.describe(error)}; pgflow goes on without it"
        )
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
    for writer in logging.getLogger().handlers:
        if isinstance(writer, LineWriter):
            with suppress(BaseException):
                writer.handle(record)
                return
    # The application has taken our handler away, or given it a formatter that fails.
    os.write(2, f"{text}\n".encode(errors="backslashreplace"))
