"""The first moments of the program: what a signal means before a command listens.

Loads next to nothing: a signal that comes before it is held ends the program.
"""

from __future__ import annotations

import os
import signal

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


def _open_nothing() -> None:
    try:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    except OSError:
        return


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
