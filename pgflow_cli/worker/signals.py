"""The signals that a supervisor hears. Their handlers only note them down."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

END = {"SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"}
QUIET = {"SIGUSR1", "SIGTSTP"}
RELEASE = "SIGQUIT"
DUMP = "SIGUSR2"


def is_hangup_ignored() -> bool:
    """Say whether the one who started us wants us to outlive the terminal, as nohup
    does.
    """
    hangup = getattr(signal, "SIGHUP", None)
    return hangup is not None and signal.getsignal(hangup) is signal.SIG_IGN


class Signals:
    """What has been signaled since it was last taken, by name and in turn."""

    def __init__(self, kept: list[str] | None = None) -> None:
        # With what came before there were handlers of ours.
        self._names: list[str] = [] if kept is None else kept

    def take(self) -> Iterator[str]:
        """Yield each name once."""
        while self._names:
            yield self._names.pop(0)

    @contextmanager
    def watched(self) -> Iterator[socket.socket]:
        """Note signals down inside; the socket becomes readable with each."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        old_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        names = [*END, *QUIET, RELEASE, DUMP]
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        if is_hangup_ignored():
            numbers.remove(signal.SIGHUP)
        old = {
            n: signal.signal(n, lambda n, _: self._names.append(signal.Signals(n).name))
            for n in numbers
        }
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(old_fd)
            for number, handler in old.items():
                signal.signal(number, handler)
            reader.close()
            writer.close()
