"""Tells systemd the state of a worker: ready, alive, stopping. Does nothing elsewhere.

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


class RunningJobs(Protocol):
    """The part of a process that the status text counts."""

    def running(self) -> Sequence[object]: ...


class Notices:
    """Notifications of one supervisor to the service manager that started it.

    `watchdog` is the longest silence the manager allows before it kills and restarts
    the service; 0 if it allows any.
    """

    def __init__(self, address: str | None, watchdog: float) -> None:
        self._address = address
        # Three times within that limit: one lost datagram and one slow turn cause no
        # restart.
        self._pulse = watchdog / 3
        self._next_pulse = self._next_text = 0.0
        self._ready = self._ending = False

    def turn(self, memories: Iterable[RunningJobs], *, ending: bool) -> None:
        """Send changes, on each turn of the supervisor's loop; never blocks.

        Only the loop calls this, so the watchdog detects a loop that is stuck. An
        outage of the database does not count: a restart would not help.
        """
        if self._address is None:
            return
        now, shown, lines = time.monotonic(), list(memories), list[str]()
        starts = bool(shown) and not self._ready
        ends = ending and not self._ending
        beats = self._pulse > 0 and now >= self._next_pulse
        tells = starts or (self._ready and (ends or now >= self._next_text))
        if starts:
            lines.append("READY=1")
        if ends:
            lines.append("STOPPING=1")
        if beats:
            lines.append("WATCHDOG=1")
        if tells:
            lines.append(f"STATUS={_told(shown, ending=ending)}")
        # What was not sent is sent again: a worker whose READY=1 met a full socket
        # would count as starting for ever.
        if not lines or not say(self._address, *lines):
            return
        self._ready |= starts
        self._ending |= ends
        if beats:
            self._next_pulse = now + self._pulse
        if tells:
            self._next_text = now + INTERVAL


def say(address: str | None, *lines: str) -> bool:
    """Send lines to the service manager; return whether there is one that took them."""
    if address is None or not hasattr(socket, "AF_UNIX"):
        return False
    # The name of an abstract socket begins with @ where the kernel expects a zero byte.
    name = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.sendto("\n".join(lines).encode(), name)
    except OSError:
        # The service manager cannot be reached; jobs go on.
        return False
    return True


def _told(memories: list[RunningJobs], *, ending: bool) -> str:
    jobs = sum(len(memory.running()) for memory in memories)
    state = "ending, waiting for what runs" if ending else "working"
    return f"{state}; processes: {len(memories)}, jobs running: {jobs}"
