"""The folder of a local server: its files, and how to stop the server that they
describe.

`server.json` names the owner; the lock says whether the owner, or its guard, lives.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from pgflow_cli.errors import ConfigurationError
from pgflow_cli.local import process_identity
from pgflow_cli.local.binaries import (
    ROOTS_FOLDER,
    Account,
    Binaries,
    runs_as,
    server_account,
)

DEFAULT_FOLDER = Path(".pgflow")
USER = "pgflow"
PORT = 5432  # only the name of the socket: the server does not listen on TCP
_EPHEMERAL = "ephemeral"
_LONGEST_SOCKET_PATH = 103  # macOS; Linux allows four more


@dataclass(frozen=True, slots=True)
class Record:
    """The content of server.json, which the owner of a server writes for other
    processes.
    """

    owner: int
    owner_started: float
    binaries: str
    version: int
    sockets: str


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """Whether a local server runs, whose it is and where its files are."""

    running: bool
    version: int | None
    pid: int | None
    owner: int | None
    data: str
    log: str


@dataclass(frozen=True, slots=True)
class Folder:
    """One server's folder. It belongs to our account; the folders below to the
    server's.
    """

    path: Path
    ephemeral: bool = False

    @classmethod
    def of(
        cls, data_dir: Path, account: Account | None, *, ephemeral: bool = False
    ) -> Folder:
        """Return the folder that belongs to a data directory as it was typed.

        PostgreSQL does not run as root and its account may not reach root's folders, so
        root's servers stand together elsewhere, named after the directory.
        """
        path = Path(os.path.abspath(data_dir.expanduser()))
        if account is None:
            return cls(path / _EPHEMERAL if ephemeral else path, ephemeral)
        mark = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
        name = f"{path.parent.name or 'root'}-{mark}"
        return cls(
            ROOTS_FOLDER / (f"{name}-{_EPHEMERAL}" if ephemeral else name), ephemeral
        )

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def log(self) -> Path:
        return self.path / "postgres.log"

    @property
    def password(self) -> Path:
        return self.path / "password"

    def version(self) -> int | None:
        """Return the major version that the data belong to."""
        try:
            return int((self.data / "PG_VERSION").read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    def record(self) -> Record | None:
        """Return the record of the last owner."""
        try:
            return Record(**json.loads((self.path / "server.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write_record(self, record: Record) -> None:
        """Tell others who owns the server."""
        write_private(self.path / "server.json", json.dumps(asdict(record)))

    def programs(self) -> Binaries:
        """Return the programs that the last owner ran the server with."""
        record = self.record()
        if record is None:
            raise ConfigurationError(f"{self.path} does not say how its server ran")
        return Binaries(Path(record.binaries), record.version, server_account())

    def owner(self) -> int | None:
        """Return the process that started the server and still lives."""
        record = self.record()
        if record and process_identity.is_same(record.owner, record.owner_started):
            return record.owner
        return None

    def postmaster(self) -> int | None:
        """Return the process of the server if it lives.

        The pid file survives a power failure, and its pid may then be of another
        process: the start time must agree, too.
        """
        pid, since, _ = self._pid_file()
        return pid if pid and process_identity.is_same(pid, since) else None

    def is_ready(self) -> bool:
        """Whether the server takes connections."""
        return self._pid_file()[2] == "ready" and self.postmaster() is not None

    def url(self) -> str | None:
        """Return the URL of the running server, password and all."""
        record = self.record()
        if record is None or not self.is_ready():
            return None
        password = self.password.read_text(encoding="ascii")
        host = quote(record.sockets, safe="")
        return f"postgresql://{USER}:{password}@{host}:{PORT}/postgres"

    def status(self) -> ServerStatus:
        """Return the status for `dev status`."""
        return ServerStatus(
            running=self.is_ready(),
            version=self.version(),
            pid=self.postmaster(),
            owner=self.owner(),
            data=str(self.data),
            log=str(self.log),
        )

    def lock(self) -> int | None:
        """Take the lock to start or stop this server; None if another process has it.

        The owner and its guard hold the lock until they end: a process that gets it
        knows that neither is left.
        """
        path = self.path / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None  # removed by a process that cleans up
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def make_socket_folder(self, account: Account | None) -> Path:
        """Make the folder of the socket, elsewhere if its path would be too long."""
        folder = self.path / "socket"
        if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) > _LONGEST_SOCKET_PATH:
            # Root's runtime folder is closed to the account that runs the server.
            runtime = os.environ.get("XDG_RUNTIME_DIR") if account is None else None
            root = runtime if runtime and os.path.isdir(runtime) else "/tmp"  # noqa: S108
            folder = Path(tempfile.mkdtemp(prefix="pgflow-", dir=root))
        make_folder(folder, account)
        return folder

    def end(self, binaries: Binaries) -> None:
        """Stop the server and remove its traces; of an ephemeral one, everything.

        Only for the holder of the lock.
        """
        self.end_orphan(binaries)
        if self.ephemeral:
            shutil.rmtree(self.path, ignore_errors=True)

    def end_orphan(self, binaries: Binaries) -> None:
        """Stop a server whose owner was killed together with its guard.

        Only for the holder of the lock.
        """
        record = self.record()
        if self.postmaster() is not None:
            self._stop(binaries)
        # If its number is another process's now, PostgreSQL would refuse to start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        if record is not None:
            shutil.rmtree(record.sockets, ignore_errors=True)
            (self.path / "server.json").unlink(missing_ok=True)
        if self.ephemeral:
            self.remove_data()

    def remove_data(self) -> None:
        """Remove the data and what belongs to them, and nothing else."""
        for name in ("data", "data.new", "socket"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in ("password", "postgres.log", "server.json"):
            (self.path / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the data, and the folder unless it holds something else.

        Only for the holder of the lock, which is void afterwards.
        """
        self.remove_data()
        for name in (".gitignore", "lock"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def make(self) -> None:
        """Make the folder, or see that it is one of ours.

        What stands in it is removed by `dev reset`, and hidden from git.
        """
        try:
            if self.path.parent == ROOTS_FOLDER:
                make_open_folder(ROOTS_FOLDER)
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            names = {path.name for path in self.path.iterdir()}
            if names - {_EPHEMERAL} and "lock" not in names:
                raise ConfigurationError(
                    f"{self.path} is a folder with files that are not pgflow's",
                    "Name another one: --data-dir DIR",
                ) from None
        except OSError as error:
            raise ConfigurationError(
                f"cannot make {self.path}: {error.strerror}",
                "Name another folder: --data-dir DIR",
            ) from None

    def _stop(self, binaries: Binaries) -> None:
        for mode in ("immediate",) if self.ephemeral else ("fast", "immediate"):
            stop = ("-D", str(self.data), "-m", mode, "-t", "30", "-w", "stop")
            with suppress(FileNotFoundError):  # the programs were removed
                if binaries.run("pg_ctl", *stop).returncode == 0:
                    return
        if (pid := self.postmaster()) is not None:
            os.kill(pid, signal.SIGQUIT)

    def _pid_file(self) -> tuple[int, float, str]:
        """Return pid, start time and state of the server from postmaster.pid."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return int(lines[0]), float(lines[2]), "".join(lines[7:8]).strip()
        except (OSError, ValueError, IndexError):
            return 0, 0.0, ""


def make_folder(path: Path, account: Account | None) -> None:
    """Make a folder that only the server's account can enter, if it is not there."""
    path.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(path, account.uid, account.gid)


def make_open_folder(path: Path) -> None:
    """Make a folder that every account may enter, whatever the umask is."""
    with suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o755)


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Write a file atomically that only we, or the server's account, can read."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        if account is not None:
            os.fchown(file.fileno(), account.uid, account.gid)
    partial.replace(path)


_PREFIX = "pgflow-server-"
# A younger folder may belong to a process that has no lock yet.
_ABANDONED_SECONDS = 600


def make_ephemeral(account: Account | None) -> Folder:
    """Make a temporary folder that the server's account reaches."""
    root = _temporary_root(account)
    return Folder(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root)), ephemeral=True)


def abandoned(account: Account | None) -> Iterator[tuple[Folder, int]]:
    """Yield ephemeral folders, and their locks, whose owner and guard are gone."""
    for path in Path(_temporary_root(account)).glob(f"{_PREFIX}*"):
        try:
            stat = path.lstat()
            fresh = time.time() - stat.st_mtime < _ABANDONED_SECONDS
            ours = stat.st_uid == os.geteuid()
            if not ours or (fresh and not (path / "lock").exists()):
                continue
            folder = Folder(path, ephemeral=True)
            lock = folder.lock()
        except OSError:
            continue  # another process was faster
        if lock is not None:
            yield folder, lock


def _temporary_root(account: Account | None) -> str:
    usual = tempfile.gettempdir()
    if account is None:
        return usual
    for folder in (usual, "/tmp", "/var/tmp"):  # noqa: S108
        if runs_as(account, "/bin/sh", "-c", 'cd "$0"', folder):
            return folder
    raise ConfigurationError(
        f"{account.name}, who runs PostgreSQL for root, can enter no temporary folder",
        "Set TMPDIR to one that every account may enter.",
    )
