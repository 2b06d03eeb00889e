"""Finds the server of a working directory, and what the URL `dev:` stands for."""

from __future__ import annotations

import atexit
import time
from pathlib import Path

from pgflow_cli.errors import ConfigurationError
from pgflow_cli.local_server.binaries import server_account
from pgflow_cli.local_server.folder import DEFAULT_FOLDER, Folder
from pgflow_cli.local_server.server import AlreadyRunning, LocalServer

_PATIENCE_SECONDS = 60.0


def find_running(data_dir: Path = DEFAULT_FOLDER) -> Folder | None:
    """Return the folder of the server that was started for a data directory, or None.

    It may be the lasting one or the ephemeral one.
    """
    account = server_account()
    for ephemeral in (False, True):
        folder = Folder.of(data_dir, account, ephemeral=ephemeral)
        if folder.is_ready():
            return folder
    return None


def running_url(data_dir: Path = DEFAULT_FOLDER) -> str | None:
    """Return the URL of the server that runs for a data directory, or None."""
    folder = find_running(data_dir)
    return folder.url() if folder else None


def url_of_dev(
    data_dir: Path = DEFAULT_FOLDER,
    *,
    environment: str | None = None,
    pg_bin: Path | None = None,
) -> str:
    """Return what the URL `dev:` stands for, starting the server if need be.

    A server started here ends with this process. Raises `ConfigurationError` in an
    environment that is not for development.
    """
    if environment not in (None, "", "dev"):
        raise ConfigurationError(
            f"the URL dev: is refused because PGFLOW_ENV is {environment}",
            "Set DATABASE_URL to that environment's server.",
        )
    server = LocalServer(data_dir, pg_bin=pg_bin)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        if found := running_url(data_dir):
            return found
        try:
            server.start()
        except AlreadyRunning:
            # It is being started or ended; either is done soon.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            atexit.register(server.stop)
            return server.url
