"""Ends what a program has left running outside of its process group: in a session of
its own, for one.

It is known by a variable of the program's environment whose value no other program has
had, and which everything that the program starts inherits. Linux only: elsewhere no
process can be asked for its environment.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pgflow_cli.formats.clock import monotonic, sleep

_PATIENCE = 1.0  # seconds that a killed process may take to go: one may hang on a disk
_LOOK = 0.01  # seconds between two looks
_EXEC = 0.05  # seconds in which a process becomes another program, and shows nothing
# Seconds in which the kernel cannot have given out every process id there is: what was
# started meanwhile has a higher one, unless the highest has been reached.
_BEFORE_REUSE = 1.0


def end_marked(mark: bytes, program: int, seconds: float) -> None:
    """Kill all processes that have `mark` (NAME=value) in their environment.

    `program` is the process that was given it first, `seconds` ago. Looks until there
    is none: one may start another just before it is killed. Passes over what has
    changed its user or emptied its environment.
    """
    if sys.platform != "linux":
        return
    began = monotonic()
    after = program if seconds < _BEFORE_REUSE else 0
    while True:
        found = [_kill(pid, mark) for pid in _younger(after)]
        patience = _PATIENCE if any(found) else _EXEC if None in found else 0.0
        if monotonic() >= began + patience:
            return
        sleep(_LOOK)


def _younger(pid: int) -> Iterator[int]:
    """Return the processes that may have been started after one; for 0 all."""
    with suppress(OSError, ValueError):
        newest = int(Path("/proc/loadavg").read_bytes().split()[-1])
        everyone = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        yield from (each for each in everyone if each > pid or newest < pid)


def _kill(pid: int, mark: bytes) -> bool | None:
    """Kill a process if it has the mark, and say whether it has; None if it may."""
    if not (found := _has(pid, mark)):
        return found
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            # Again: meanwhile the number may have become another process's.
            if _has(pid, mark):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
    return True


def _has(pid: int, mark: bytes) -> bool | None:
    """Say whether a process has the mark; None if it shows no environment, and is no
    thread of the kernel and not dead.
    """
    with suppress(OSError):
        if environment := Path(f"/proc/{pid}/environ").read_bytes():
            return mark in environment.split(b"\0")
        os.readlink(f"/proc/{pid}/exe")
        return None
    return False
