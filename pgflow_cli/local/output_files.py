"""Writes files that replace what stood under their name only when they are whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"


@contextmanager
def opened(target: str | Path) -> Iterator[BinaryIO]:
    """Hand out a stream; a file gets its name when all of it is on the disk.

    Only its owner can read it. A link is followed. What is no file, such as a named
    pipe, stays what it is and is written to. Raises `OSError`.
    """
    if is_special(target):
        with open(target, "wb", opener=_open_in_place) as stream:
            yield stream
        return
    path = followed(target)
    partial = Path(f"{path}{PARTIAL}")
    partial.unlink(missing_ok=True)
    # Never through a link that another account has put there.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


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
    """Return where a link leads to in the end, and any other path as it is.

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


def _open_in_place(path: str, _flags: int) -> int:
    return os.open(path, os.O_WRONLY)  # made by others, so neither made nor emptied
