"""Tells a process from a later one with the same pid."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from datetime import datetime
from pathlib import Path

# Seconds of difference: both sides are rounded to whole seconds.
_TOLERANCE = 2.0


def started(pid: int) -> float | None:
    """Return when a living process was started, in seconds of the epoch."""
    try:
        return _started_by_proc(pid) if Path("/proc/stat").exists() else _by_ps(pid)
    except (OSError, ValueError, IndexError):
        return None


def is_same(pid: int, since: float) -> bool:
    """Whether the process of that number is the one that started at that time."""
    actual = started(pid)
    return actual is not None and abs(actual - since) <= _TOLERANCE


def kill_group(pid: int, since: float, number: int = signal.SIGKILL) -> None:
    """Send a signal to the group of a process that leads one, if it is that process."""
    if is_same(pid, since):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


def _started_by_proc(pid: int) -> float | None:
    # The name in parentheses may hold spaces and parentheses itself.
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
    state, ticks = fields.split()[0], int(fields.split()[19])
    if state in ("Z", "X"):
        return None
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    return None


def _by_ps(pid: int) -> float | None:
    done = subprocess.run(
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C"},
    )
    text = " ".join(done.stdout.split())
    return datetime.strptime(text, "%a %b %d %H:%M:%S %Y").timestamp()
