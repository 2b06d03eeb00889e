"""Starts and stops a local server."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pgflow_cli.errors import ConfigurationError, DatabaseUnavailable, TryLater
from pgflow_cli.local import process_identity
from pgflow_cli.local.binaries import (
    ROOTS_FOLDER,
    Binaries,
    find,
    for_account,
    server_account,
)
from pgflow_cli.local.folder import (
    PORT,
    USER,
    Folder,
    Record,
    abandoned,
    make_ephemeral,
    make_folder,
    write_private,
)
from pgflow_cli.local.guard import Guard

_START_SECONDS = 60.0  # seconds for the server to start, crash recovery included


class AlreadyRunning(TryLater):
    """Another process has started this server, or is about to end it."""


class LocalServer:
    """A server in a folder of ours; as a context manager it runs inside the block.

    An ephemeral server runs without fsync and is removed when it stops. Without a data
    directory it is ephemeral, in a temporary folder. `say` is called with each slow
    step; `notes` holds sentences that an operator should read.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        ephemeral: bool = False,
        pg_bin: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.notes: list[str] = []
        self._account = server_account()
        self._folder: Folder | None = None
        if data_dir is not None:
            self._folder = Folder.of(data_dir, self._account, ephemeral=ephemeral)
        self._pg_bin = pg_bin
        self._say = say
        self._lock: int | None = None
        self._binaries: Binaries | None = None
        self._guard: Guard | None = None
        self._postmaster: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def folder(self) -> Folder:
        """Return where the server is; an ephemeral one is somewhere once it started."""
        if self._folder is None:
            raise DatabaseUnavailable("the ephemeral server has not been started")
        return self._folder

    @property
    def url(self) -> str:
        """Return the URL of the running server, password and all."""
        found = self.folder.url()
        if found is None:
            raise DatabaseUnavailable(f"no server runs in {self.folder.path}")
        return found

    @property
    def alive(self) -> bool:
        """Whether the server that we started still runs."""
        return self._postmaster is not None and self._postmaster.poll() is None

    def start(self) -> Self:
        """Start the server and wait until it takes connections.

        Raises `AlreadyRunning` if another process has started it.
        """
        version = self._folder.version() if self._folder else None
        found = find(self._pg_bin, version=version)
        self._lock = self._enter()
        try:
            self._guarded_start(found, self._lock)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server; of an ephemeral one nothing is left."""
        if self._lock is None:
            return
        if self._binaries is not None:
            self.folder.end(self._binaries)
        elif self.folder.ephemeral:
            shutil.rmtree(self.folder.path, ignore_errors=True)
        if self._postmaster is not None:
            self._postmaster.wait()
        if self._guard is not None:
            self._guard.dismiss()
        os.close(self._lock)
        self._lock = self._guard = self._postmaster = self._binaries = None

    def mind(self, process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
        """Have a process group killed if this process is killed."""
        if self._guard is not None:
            self._guard.mind(process.pid)

    def _enter(self) -> int:
        """Make or open the folder, and return its lock."""
        if self._folder is None:
            self._remove_abandoned()
            self._folder = make_ephemeral(self._account)
        else:
            self._folder.make()
        lock = self._folder.lock()
        if lock is None:
            raise AlreadyRunning(
                f"the server in {self._folder.path} belongs to a living process",
                "Try: pgflow dev status",
            )
        if self._account is not None:
            # The server's account may pass through, not list.
            self._folder.path.chmod(0o711)
        # Data, password and log must not be committed to git.
        (self._folder.path / ".gitignore").write_text("*\n", encoding="utf-8")
        return lock

    def _remove_abandoned(self) -> None:
        for folder, lock in abandoned(self._account):
            if folder.record() is None:
                shutil.rmtree(folder.path, ignore_errors=True)
            else:
                folder.end(folder.programs())
            os.close(lock)

    def _guarded_start(self, found: Binaries, lock: int) -> None:
        folder = self.folder
        copies = folder.path if folder.ephemeral else ROOTS_FOLDER
        binaries, copied = for_account(found, copies)
        self._binaries = binaries
        if binaries.account is not None:
            name = binaries.account.name
            self.notes.append(
                f"PostgreSQL refuses to run as root: it runs as {name} "
                f"in {folder.path}."
            )
            if copied:
                self.notes.append(
                    f"{name} cannot reach {found.folder}: the programs were copied "
                    f"to {binaries.folder}."
                )
        folder.end_orphan(binaries)
        self._guard = Guard(folder, binaries, lock=lock)
        if not folder.data.exists():
            self._make_data(binaries)
        self._launch(binaries)

    def _make_data(self, binaries: Binaries) -> None:
        """Run initdb in a temporary folder and rename the result, so that no incomplete
        cluster is found.
        """
        self._say(f"making a PostgreSQL {binaries.version} database")
        folder = self.folder
        new = folder.path / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        make_folder(new, binaries.account)
        password = secrets.token_urlsafe(24)
        write_private(folder.password, password)
        theirs = folder.path / "password.initdb"
        write_private(theirs, password, binaries.account)
        try:
            status, output = self._initdb(binaries, new, theirs)
        finally:
            theirs.unlink()
        if status != 0:
            shutil.rmtree(new, ignore_errors=True)
            raise ConfigurationError(
                f"{binaries.program('initdb')} failed", *_last_lines(output)
            )
        new.rename(folder.data)

    def _initdb(
        self, binaries: Binaries, data: Path, password: Path
    ) -> tuple[int, str]:
        output = ""
        for locale in _locales(binaries.version):
            arguments = [
                *("-D", str(data), "-U", USER, "--encoding=UTF8", *locale),
                *("-A", "scram-sha-256", f"--pwfile={password}"),
                *(["--no-sync"] if self.folder.ephemeral else []),
            ]
            process = binaries.start("initdb", *arguments, stdout=subprocess.PIPE)
            with process:
                self.mind(process)
                output, _ = process.communicate()
            if process.returncode == 0 or "locale" not in output:
                break
        return process.returncode, output

    def _launch(self, binaries: Binaries) -> None:
        self._say(f"starting PostgreSQL {binaries.version}")
        folder = self.folder
        sockets = folder.make_socket_folder(binaries.account)
        if sockets.parent != folder.path:
            self.notes.append(f"The path {folder.path} is long: socket in {sockets}.")
        folder.write_record(
            Record(
                owner=os.getpid(),
                owner_started=process_identity.started(os.getpid()) or 0.0,
                binaries=str(binaries.folder),
                version=binaries.version,
                sockets=str(sockets),
            )
        )
        with folder.log.open("ab") as log:
            start_of_log = log.tell()
            options = _options(folder, sockets)
            self._postmaster = binaries.start("postgres", *options, stdout=log.fileno())
        if self._guard is not None:
            self._guard.mind_server(self._postmaster.pid)
        deadline = time.monotonic() + _START_SECONDS
        while not folder.is_ready():
            if self._postmaster.poll() is not None or time.monotonic() > deadline:
                said = folder.log.read_bytes()[start_of_log:].decode(errors="replace")
                raise DatabaseUnavailable(
                    f"PostgreSQL did not start in {folder.path}", *_last_lines(said)
                )
            time.sleep(0.01)


def _options(folder: Folder, sockets: Path) -> list[str]:
    settings = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        # What a killed server leaves is in its folder, and goes with that.
        "dynamic_shared_memory_type": "mmap",
    }
    if folder.ephemeral:
        settings |= {"fsync": "off", "full_page_writes": "off"}
    given = [f"--{name}={value}" for name, value in settings.items()]
    return ["-D", str(folder.data), *given]


def _locales(version: int) -> list[tuple[str, ...]]:
    """Return options for C.UTF-8; before 17 it is the system's, and some have none."""
    if version >= 17:
        provider = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        return [(*provider, "--locale=C")]
    return [("--locale=C.UTF-8",), ("--no-locale",)]


def _last_lines(text: str) -> list[str]:
    return text.strip().splitlines()[-4:]
