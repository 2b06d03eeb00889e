"""The status file of a running `pgflow work`: whether its loops run, and when it last
reached the database. Probes read it, which must not use the database.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

INTERVAL = 1.0  # seconds between two writes
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class Liveness(Protocol):
    """Signs of life of a process; both are instants of the monotonic clock."""

    def turned_at(self) -> float: ...

    def renewed_at(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Status:
    """The content of a status file; times are seconds before it was written.

    `turned_ago` is of the process whose loop has stood still for longest, `heard_ago`
    of the last heartbeat that the database answered. The first is None before a
    process is ready, the second before one was answered. `stalled_for` is for how long
    one of them has leased nothing though due jobs wait that it may run: 0 unless for
    three leases. `quiet` processes lease nothing, because an operator or a signal said
    so. In place of the `restarting` ones, which are not counted, others will start:
    they have ended, or could not load the handlers. `unanswered` is for how long no
    heartbeat was answered: 0 if the last one was. Only in the `realm` in which it was
    written does the process id mean anything.
    """

    name: str
    pid: int
    processes: int
    turned_ago: float | None
    heard_ago: float | None
    age: float = 0.0
    stalled_for: float = 0.0
    quiet: int = 0
    restarting: int = 0
    unanswered: float = 0.0
    realm: str | None = None

    def problem(self, *, max_age: float, ready: bool) -> str | None:
        """Return the first problem, or None; `ready` wants the database answered and
        jobs leased, too.
        """
        if self.realm and self.realm == _realm() and not _is_alive(self.pid):
            return f"{self.name} (process {self.pid}) is gone, and was not told to end"
        if self.age > max_age:
            return f"{self.name} has not written its status for {self.age:.0f} s"
        if self.turned_ago is not None and self.turned_ago + self.age > max_age:
            return f"a loop of {self.name} stands still for {self.turned_ago:.0f} s"
        return self._unready(max_age) if ready else None

    def _unready(self, max_age: float) -> str | None:
        if self.turned_ago is None:
            died = f": {self.restarting} ended and start again" * bool(self.restarting)
            return f"no process of {self.name} is ready{died}"
        if self.heard_ago is None:
            return f"the database has answered no heartbeat of {self.name} yet"
        heard = self.heard_ago + self.age
        if self.unanswered or heard > max_age:
            return f"the database has not answered {self.name} for {heard:.0f} s"
        if self.stalled_for:
            return (
                f"{self.name} has leased nothing for {self.stalled_for:.0f} s, though "
                "due jobs wait that it may run"
            )
        return None

    def words(self) -> str:
        """Return its name, and what an operator should know of a healthy worker."""
        told = []
        if self.quiet:
            told.append(
                f"{self.quiet} of {self.processes} processes quiet: pgflow workers "
                f"resume {self.name}"
            )
        if self.restarting:
            places = self.processes + self.restarting
            told.append(
                f"{self.restarting} of {places} processes restarting: its log says why"
            )
        return f"{self.name} ({'; '.join(told)})" if told else self.name


class StatusFile:
    """The file of one worker: written now and then, removed at a graceful end."""

    def __init__(self, name: str, folders: Sequence[Path]) -> None:
        self._name = name
        self._folders = folders
        self._path: Path | None = None
        self._made: list[Path] = []  # folders that were not there before
        self._next = 0.0

    def write(
        self,
        memories: Iterable[Liveness],
        *,
        stalled_for: float = 0.0,
        quiet: int = 0,
        answered: bool = True,
        restarting: int = 0,
        unanswered: float = 0.0,
    ) -> None:
        """Write the file if it is time. If no folder is writable, there is no file.

        `answered`: the database has answered a heartbeat of these processes.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + INTERVAL
        shown = list(memories)
        turned = [now - memory.turned_at() for memory in shown]
        heard = [now - memory.renewed_at() for memory in shown]
        status = Status(
            self._name,
            os.getpid(),
            len(shown),
            max(turned, default=None),
            max(heard, default=None) if answered else None,
            stalled_for=stalled_for,
            quiet=quiet,
            restarting=restarting,
            unanswered=unanswered,
            realm=_realm(),
        )
        for folder in self._folders if self._path is None else [self._path.parent]:
            with suppress(OSError):
                missing = [f for f in (folder, *folder.parents) if not f.exists()]
                self._path = _write(folder, status)
                self._made += missing
                return

    def remove(self) -> None:
        """Remove it and the folders made for it: the worker has ended in good order."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
                # Folders made by this process, as long as no other process uses them.
                for folder in self._made:
                    folder.rmdir()


def folders(state_home: str | None) -> list[Path]:
    """Return where status files may stand, the first choice first.

    The second is for containers whose root cannot be written to.
    """
    home = Path(state_home or "~/.local/state").expanduser() / "pgflow" / "workers"
    user = getattr(os, "getuid", lambda: "user")()
    return [home, Path(tempfile.gettempdir()) / f"pgflow-workers-{user}"]


def read_all(places: Iterable[Path], name: str | None = None) -> list[Status]:
    """Return the statuses found, or those of one worker; unreadable files are none."""
    found = []
    for folder in places:
        for path in sorted(folder.glob("*.json")):
            with suppress(OSError, ValueError, TypeError):
                fields = json.loads(path.read_text(encoding="utf-8"))
                age = max(0.0, time.time() - path.stat().st_mtime)
                status = Status(**{**fields, "age": age})
                if _owned(path) and name in (None, status.name):
                    found.append(status)
    return found


def _realm() -> str | None:
    """Name the host and the pid namespace in which process ids are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
        return f"{boot.strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _is_alive(pid: int) -> bool:
    """Return whether the process is alive; only where there is a /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    # Z is a zombie, which its parent has not reaped. The name before it may hold any
    # text.
    return stat.rpartition(")")[2].split()[:1] != ["Z"]


def _write(folder: Path, status: Status) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _owned(folder):
        raise PermissionError(f"{folder} belongs to another account")
    path = folder / f"{_UNSAFE.sub('_', status.name)}.json"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(asdict(status)), encoding="utf-8")
    partial.replace(path)
    return path


def _owned(path: Path) -> bool:
    """Return whether the folder is ours: every account can write to the temporary
    folder.
    """
    return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
