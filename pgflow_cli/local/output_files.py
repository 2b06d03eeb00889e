"""Writes files that replace what stood under their name only when they are whole.

Until then a file is called FILE.partial- and 16 hex digits, a name of its own for each
writer. It is removed however the writer ends, unless it is killed (SIGKILL, no power):
`find . -name '*.partial-*'` lists what that has left. Nothing here removes it, because
it may be of a writer that lives.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pgflow_cli.local.clients import ending_on_signals

PARTIAL = ".partial"


@contextmanager
def opened(target: str | Path) -> Iterator[BinaryIO]:
    """Hand out a stream; a file gets its name when all of it is on the disk.

    Only its owner can read it. A link is followed. What is no file, such as a named
    pipe, stays what it is and is written to. Of several writers of one file, the last
    to end is the one whose text stays. Raises `OSError`.
    """
    if is_special(target):
        with open(target, "wb", opener=_open_in_place) as stream:
            yield stream
        return
    path = followed(target)
    # Random, not the number of the process: two containers that share a folder have
    # the same numbers.
    partial = Path(f"{path}{PARTIAL}-{secrets.token_hex(8)}")
    with ending_on_signals():
        try:
            # Never through a link that another account has put there.
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
            flush_folder(path.parent)
        finally:
            # Twice: the signal that ends us may come here and cut the first short. It
            # is raised once.
            try:
                _remove(partial)
            finally:
                _remove(partial)


def flush_folder(folder: Path) -> None:
    """Flush a folder to the disk (fsync), if it can be opened."""
    if os.name != "posix":
        return
    with suppress(PermissionError):  # a folder that may be written to, but not listed
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_special(target: str | Path) -> bool:
    """Whether something stands there that is neither a file nor a folder: a device, a
    named pipe, or a descriptor such as /dev/stdout.
    """
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(found.st_mode):
        return False
    # An open file that has no name any more is reached through /dev/fd only.
    return not stat.S_ISREG(found.st_mode) or not _is_same(target)


def followed(target: str | Path) -> Path:
    """Return the target of a symbolic link, and any other path as it is.

    Raises `PermissionError` for a link that another account has put into a folder of
    all: it may lead to any file of ours.
    """
    path = Path(target)
    if not path.is_symlink():
        return path
    _require_ours(path)
    return Path(os.path.realpath(path))


def _require_ours(link: Path) -> None:
    if not hasattr(os, "geteuid"):
        return
    owner, folder = link.lstat().st_uid, link.parent.stat()
    if folder.st_mode & stat.S_IWOTH and owner not in (os.geteuid(), folder.st_uid):
        raise PermissionError(0, "it is a link that belongs to another account")


def _is_same(target: str | Path) -> bool:
    try:
        return os.path.samefile(target, os.path.realpath(target))
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _open_in_place(path: str, _flags: int) -> int:
    # It exists already, so it is neither created nor truncated.
    return os.open(path, os.O_WRONLY)
