"""Temporary folders of servers, and those that their owners abandoned."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pgflow_cli.errors import ConfigurationError
from pgflow_cli.local_server.binaries import Account, runs_as
from pgflow_cli.local_server.folder import Folder

_PREFIX = "pgflow-server-"
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
            continue  # somebody else was faster
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
        "Set TMPDIR to one that everybody may enter.",
    )
