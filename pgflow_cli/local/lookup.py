"""Finds the server of a working directory, and resolves the URL `dev:`."""

from __future__ import annotations

import atexit
import os
import shutil
import time
from pathlib import Path

from pgflow_cli.errors import ConfigurationError, DatabaseUnavailable
from pgflow_cli.local.binaries import server_account
from pgflow_cli.local.folder import DEFAULT_FOLDER, PORT, USER, Folder
from pgflow_cli.local.server import AlreadyRunning, LocalServer

_PATIENCE_SECONDS = 60.0  # seconds for another process to start or stop the server


def user_folder() -> Path:
    """Return the data directory of a user's one server for all working directories."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "pgflow"


def folders(data_dir: Path = DEFAULT_FOLDER) -> tuple[Folder, Folder]:
    """Return where the lasting and the ephemeral server of a data directory stand."""
    account = server_account()
    ephemeral = Folder.of(data_dir, account, ephemeral=True)
    return Folder.of(data_dir, account), ephemeral


def find_running(data_dir: Path = DEFAULT_FOLDER) -> Folder | None:
    """Return the folder of the server that runs for a data directory, or None."""
    return next((f for f in folders(data_dir) if f.is_ready()), None)


def running_url(data_dir: Path = DEFAULT_FOLDER) -> str | None:
    """Return the URL of the server that runs for a data directory, or None."""
    folder = find_running(data_dir)
    return folder.url() if folder else None


def psql(folder: Folder) -> tuple[list[str], dict[str, str]]:
    """Return psql's command line for a server that runs, and the variables it needs.

    Raises `ConfigurationError` where there is no psql.
    """
    record = folder.record()
    if record is None:
        raise DatabaseUnavailable(f"no server runs in {folder.path}")
    beside = os.path.join(record.binaries, "psql")
    program = beside if os.access(beside, os.X_OK) else shutil.which("psql")
    if program is None:
        raise ConfigurationError(
            f"there is no psql in {record.binaries}, nor in PATH",
            "Install PostgreSQL's client programs.",
        )
    command = [program, "-h", record.sockets, "-p", str(PORT), "-U", USER, "postgres"]
    # Not on the command line, which every account can read.
    return command, {"PGPASSWORD": folder.password.read_text(encoding="ascii")}


def url_of_dev(
    data_dir: Path = DEFAULT_FOLDER,
    *,
    environment: str | None = None,
    pg_bin: Path | str | None = None,
    may_create: bool = True,
) -> str:
    """Resolve the URL `dev:`; start the server if it does not run.

    A server started here ends with this process; its data stay. Raises
    `ConfigurationError` in an environment that is not for development, and where there
    are no data and none may be created.
    """
    if environment not in (None, "", "dev"):
        raise ConfigurationError(
            f"the URL dev: is for development, and PGFLOW_ENV says {environment}",
            "Set DATABASE_URL to the database of that environment.",
        )
    server = LocalServer(data_dir, pg_bin=Path(pg_bin) if pg_bin else None)
    if not may_create and all(f.version() is None for f in folders(data_dir)):
        raise ConfigurationError(
            f"the URL dev: has no server yet in {server.folder.path}",
            "Start one:  pgflow dev",
        )
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        if found := running_url(data_dir):
            return found
        try:
            server.start()
        except AlreadyRunning:
            # Another process starts or stops it, which does not take long.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            atexit.register(server.stop)
            return server.url
