"""Ends a process that a handler has forked and let run back into pgflow's code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from os import getpid
from types import TracebackType
from typing import NoReturn, Self

LAST_WORDS = 5  # seconds that such a process has to flush its output


class EndForks:
    """A context around a handler's code that only the original process leaves.

    A fork ends here with the exit status that a Python program would have: it must not
    hand in its parent's outcome, run other jobs, or keep the parent's pipes open.
    """

    __slots__ = ("_process",)

    def __enter__(self) -> Self:
        self._process = getpid()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if getpid() != self._process:
            end(error)


def end(error: BaseException | None) -> NoReturn:
    """End this process, a fork, with the exit status that `error` stands for."""
    status = 0 if error is None else 1
    try:
        with suppress(OSError, ValueError):
            # A lock of the stream's may have been held by a thread that is not here.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LAST_WORDS)
        if isinstance(error, SystemExit):
            status = _status_of(error)
        elif error is not None:
            traceback.print_exception(error)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
    finally:
        os._exit(status)


def _status_of(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1
