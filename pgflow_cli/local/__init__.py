"""A private PostgreSQL server on this host, for `dev`, `demo`, tests and the URL
`dev:`.

It listens on a socket that only its user can reach, and lives as long as the process
that started it: a guard process stops it when that process is killed.
"""

from __future__ import annotations

from pgflow_cli.local.binaries import find as find_binaries
from pgflow_cli.local.folder import DEFAULT_FOLDER, Folder, ServerStatus
from pgflow_cli.local.lookup import (
    find_running,
    folders,
    psql,
    running_url,
    url_of_dev,
    user_folder,
)
from pgflow_cli.local.server import AlreadyRunning, LocalServer

__all__ = [
    "DEFAULT_FOLDER",
    "AlreadyRunning",
    "Folder",
    "LocalServer",
    "ServerStatus",
    "find_binaries",
    "find_running",
    "folders",
    "psql",
    "running_url",
    "url_of_dev",
    "user_folder",
]
