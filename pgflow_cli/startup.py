"""The first moments of the program: what a signal means before a command listens.

Loads next to nothing: a signal that comes before it is held ends the program.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any

_HELD = ("SIGTERM", "SIGINT", "SIGQUIT")
# Commands that stay, and the signals that end them with exit code 0.
_STAYING = {
    "work": _HELD,
    "serve-admin": ("SIGTERM", "SIGINT"),
    "maintain": ("SIGTERM",),
}


def open_standard_streams() -> None:
    """Open what was closed before us on nothing: else the connection to a database
    becomes the standard error of every process that is started.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _open_nothing()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - till the end
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Closed()), encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _open_nothing() -> None:
    try:
        number = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        os.set_inheritable(number, True)  # else it is closed again in every program
    except OSError:
        return


class _Closed(io.RawIOBase):
    """Standard output that was closed before us: what is printed fails, once.

    What is flushed again while the program ends is passed over.
    """

    _failed = False

    def fileno(self) -> int:
        return 1

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self._failed:
            self._failed = True
            from pgflow_cli.errors import OutputFailed  # noqa: PLC0415 - start-up stays quick

            raise OutputFailed("cannot write to stdout: it is closed")
        return len(data)


def make_robust(stream: object) -> None:
    """Show a character that the stream cannot carry as an escape, and go on."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def hold_signals() -> None:
    """Have signals wait until it is known which command they concern."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, _numbers(_HELD))


def heed_signals(command: str | None) -> None:
    """Let the signals through that were held.

    A command that stays has nothing to end yet: until it installs handlers of its own,
    it leaves at once, with the exit code of a graceful end.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return
    if signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return  # they were not held: we are part of another program
    for number in _numbers(_STAYING.get(command or "", ())):
        signal.signal(number, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _numbers(_HELD))


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def _numbers(names: tuple[str, ...]) -> set[signal.Signals]:
    return {getattr(signal, name) for name in names}
