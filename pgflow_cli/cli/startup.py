"""The first moments of the program: what a signal means before a command listens.

Loads next to nothing: a signal that comes before it is held ends the program.
"""

from __future__ import annotations

import io
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself loads half a dozen modules
    from typing import Any

_HELD = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP")
# What a worker is asked to do without ending it.
_KEPT = ("SIGUSR1", "SIGUSR2", "SIGTSTP")
# Commands that stay, and the signals that end them with exit code 0.
_STAYING = {
    "work": _HELD,
    "serve-admin": ("SIGTERM", "SIGINT", "SIGHUP"),
    "maintain": ("SIGTERM", "SIGHUP"),
}

# The names of signals that came before the worker could act on them, in turn.
kept: list[str] = []


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
    _watch_stdout()
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _watch_stdout() -> None:
    given: Any = sys.stdout
    if given is None:
        nothing = io.BufferedWriter(_Stdout(closed=True))
        sys.stdout = io.TextIOWrapper(nothing, encoding="utf-8")
        return
    raw = getattr(given.buffer, "raw", given.buffer)  # the buffer, if there is none
    if type(raw) is not io.FileIO:  # a console of Windows
        return
    watched = _Stdout(closed=False)
    sys.stdout = io.TextIOWrapper(
        watched if raw is given.buffer else io.BufferedWriter(watched),
        encoding=given.encoding,
        errors=given.errors,
        line_buffering=given.line_buffering,
        write_through=given.write_through,
    )


def is_stdout_closed() -> bool:
    """Return whether stdout was closed before us: nothing can be written to it."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Stdout) and raw.is_closed


def _open_nothing() -> None:
    try:
        number = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        os.set_inheritable(number, True)  # else it is closed again in every program
    except OSError:
        return


class _Stdout(io.FileIO):
    """Standard output: what is printed and cannot be written fails, once.

    It takes all it is given: above a raw stream that takes less there may be no buffer
    that gives it the rest. What is flushed again while the program ends is passed over.
    A broken pipe is no failure of ours.
    """

    def __init__(self, *, closed: bool) -> None:
        super().__init__(1, "w", closefd=False)
        self.is_closed = closed
        self._why = "it is closed" if closed else None
        self._failed = False

    def write(self, data: Any) -> int:
        if self._failed or not data:  # with nothing, click asks what we take
            return len(data)
        try:
            if not self._why:
                self._write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._why = error.strerror or str(error)
        if self._why:
            self._failed = True
            from pgflow_cli.errors import StdoutFailed

            raise StdoutFailed(self._why)
        return len(data)

    def _write(self, data: Any) -> None:
        rest = memoryview(data)
        while rest:
            written = super().write(rest)
            if written is None:  # full, and does not block
                from select import select

                select([], [self], [])
            else:
                rest = rest[written:]


def hold_signals() -> None:
    """Have signals wait until it is known which command they concern."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, _numbers((*_HELD, *_KEPT)))


def heed_signals(command: str | None, arguments: list[str]) -> None:
    """Let the signals through that were held.

    A command that stays has nothing to end yet: until it installs handlers of its own,
    it leaves at once, with the exit code of a graceful end; or, if it is to end by
    itself once all is done, of one that was not. What does not end it is kept for it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return
    if signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return  # they were not held: we are part of another program
    undone = command == "work" and ("--drain" in arguments or "--once" in arguments)
    leave = _leave_undone if undone else _leave
    for number in _numbers(_STAYING.get(command or "", ())):
        act_on(number, leave)
    if command == "work":
        for number in _numbers(_KEPT):
            signal.signal(number, _keep)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _numbers((*_HELD, *_KEPT)))


def act_on(number: int, act: Any) -> Any:
    """Install a handler of a signal, and return the previous one; but not for a hang-up
    that is ignored, as under nohup: that stays so.
    """
    if number == getattr(signal, "SIGHUP", None):
        before = signal.getsignal(number)
        if before is signal.SIG_IGN:
            return before
    return signal.signal(number, act)


def ignore_signals() -> None:
    """Let no signal change what a run has come to: it is over but for the end of the
    interpreter, which restores what ends a program and leaves what is ignored.
    """
    for number in _numbers((*_HELD, *_KEPT)):
        signal.signal(number, signal.SIG_IGN)


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def _leave_undone(_number: int, _frame: object) -> None:
    raise SystemExit(75)


def _keep(number: int, _frame: object) -> None:
    kept.append(signal.Signals(number).name)


def _numbers(names: tuple[str, ...]) -> set[signal.Signals]:
    return {getattr(signal, name) for name in names}
