"""Tells systemd how a worker is: ready, at work, alive, ending. Silent elsewhere.

The protocol of sd_notify(3): a datagram of lines to a socket the service manager
names.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

INTERVAL = 1.0  # seconds between two texts for `systemctl status`
WAITING = "STATUS=waiting for the database and its schema"


class Board(Protocol):
    """What a process shows of the jobs that it runs."""

    def running(self) -> Sequence[object]: ...


class Notices:
    """What one supervisor says of itself to the service manager that started it.

    `watchdog` is the longest silence the manager allows before it kills and restarts
    the service; 0 if it allows any.
    """

    def __init__(self, address: str | None, watchdog: float) -> None:
        self._address = address
        # Three times in that span: a lost datagram or a slow turn costs no restart.
        self._pulse = watchdog / 3
        self._next_pulse = self._next_text = 0.0
        self._ready = self._ending = False

    def turn(self, boards: Iterable[Board], *, ending: bool) -> None:
        """Tell what is new, on each turn of the supervisor's loop; never blocks.

        Only the loop calls this, so the watchdog sees a loop that stands still. What
        the database does is no part of it: a restart would not mend that.
        """
        if self._address is None:
            return
        now, shown, lines = time.monotonic(), list(boards), list[str]()
        ready = self._ready or bool(shown)
        if ready and not self._ready:
            self._next_text = now
            lines.append("READY=1")
        if ending and not self._ending:
            self._next_text = now
            lines.append("STOPPING=1")
        if self._pulse and now >= self._next_pulse:
            self._next_pulse = now + self._pulse
            lines.append("WATCHDOG=1")
        if ready and now >= self._next_text:
            self._next_text = now + INTERVAL
            lines.append(f"STATUS={_told(shown, ending=ending)}")
        if lines and say(self._address, *lines):
            # A manager that was too busy to listen is told again at the next turn: it
            # would wait for READY until it gives the service up.
            self._ready, self._ending = ready, ending


def say(address: str | None, *lines: str) -> bool:
    """Send lines to the service manager, and return whether they have been sent."""
    if address is None or not hasattr(socket, "AF_UNIX"):
        return False
    # An abstract name is written with @ where the kernel wants a zero byte.
    name = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.sendto("\n".join(lines).encode(), name)
    except OSError:
        # It is gone or deaf, and no job may suffer for it.
        return False
    return True


def _told(boards: list[Board], *, ending: bool) -> str:
    jobs = sum(len(board.running()) for board in boards)
    state = "ending, waiting for what runs" if ending else "working"
    return f"{state}; processes: {len(boards)}, jobs running: {jobs}"
