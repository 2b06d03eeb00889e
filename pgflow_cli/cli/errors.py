"""Explains an error on stderr and says which exit code it has."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pgflow_cli.cli.output import messages
from pgflow_cli.errors import OutputFailed, PgflowError
from pgflow_cli.formats import safe_text
from pgflow_cli.telemetry import streams

SOFTWARE = 70
INTERRUPTED = 130
BROKEN_PIPE = 141


class PipeClosed(Exception):
    """The reader of stdout closed the pipe; click would make exit 1 of it."""


@contextmanager
def pipes_told_apart() -> Iterator[None]:
    """Turn a broken pipe into `PipeClosed`, which click leaves alone."""
    try:
        yield
    except OSError as error:
        if _is_broken_pipe(error):
            raise PipeClosed from None
        raise


def explain(error: BaseException, given: Mapping[str, Any]) -> int:
    """Tell what went wrong, never with a password in it, and return the exit code.

    `given` are the global options as far as they had been read.
    """
    color = given.get("color")
    _finish_stdout()
    if isinstance(error, SystemExit):
        return _code_of_exit(error)
    _let_log_go_first()
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, PipeClosed) or _is_broken_pipe(error):
        streams.let_go(sys.stdout)
        return BROKEN_PIPE
    if given.get("debug") and not isinstance(error, click.ClickException):
        messages.tell(safe_text.redact(_traceback_of(error)))
    if isinstance(error, click.ClickException):
        _explain_usage(error, color)
        return error.exit_code
    if isinstance(error, PgflowError):
        hints = map(safe_text.redact, error.hints)
        messages.complain(safe_text.redact(error.message), *hints, color=color)
        return error.exit_code
    if not isinstance(error, Exception):
        raise error
    _explain_bug(error, color)
    return SOFTWARE


def _let_log_go_first() -> None:
    """Write what a log still holds; where nothing reads it, nothing would read us."""
    from pgflow_cli.telemetry.log_writer import is_stuck

    if is_stuck():
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - till the end


def _is_broken_pipe(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _finish_stdout() -> None:
    """Write what was printed before the error; where that fails, the error is told."""
    try:
        sys.stdout.flush()
    except (OSError, OutputFailed, ValueError):
        streams.let_go(sys.stdout)


def _code_of_exit(error: SystemExit) -> int:
    if isinstance(error.code, int):
        return error.code
    return 0 if error.code is None else 1


def _explain_usage(error: click.ClickException, color: str | None) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        messages.tell(error.format_message())
        return
    ctx = getattr(error, "ctx", None)
    hints = (f"Try: {ctx.command_path} --help",) if ctx is not None else ()
    messages.complain(safe_text.redact(error.format_message()), *hints, color=color)


def _explain_bug(error: Exception, color: str | None) -> None:
    path = _last_error_log()
    summary = safe_text.redact(f"{type(error).__name__}: {error}")
    try:
        _save(path, safe_text.redact(_traceback_of(error)))
        where = f"The traceback is in {path}; please report it."
    except OSError as failure:
        where = f"Its traceback is not in {path}: {failure.strerror}. Try: --debug"
    messages.complain(f"this is a bug in pgflow: {summary}", where, color=color)


def _traceback_of(error: BaseException) -> str:
    # Not Python's own: a driver's error goes on with DETAIL, which prints whole rows.
    from pgflow_cli.telemetry.log_format import story

    return "\n".join(story(error)) + "\n"


def _last_error_log() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "pgflow" / "last-error.log"


def _save(path: Path, text: str) -> None:
    """Write a new file that only its owner can read, in place of any older one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(
        descriptor, "w", encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(text)
