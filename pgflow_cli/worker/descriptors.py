"""Keeps handlers from closing what their process, or another job in it, has open."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing import resource_tracker
from os import getpid
from typing import NoReturn

STANDARD = (0, 1, 2)

# Those of them that programs inherit, each with device and file, while they are what
# the process began with.
_inherited: dict[int, tuple[int, int]] = {}


def has_lost(number: int) -> bool:
    """Say whether a standard descriptor was closed, and perhaps opened by another job:
    by code that is not Python's, since `guard` was called.

    What takes its place on purpose is inherited by programs, too; what happens to get
    its number is not.
    """
    if number not in _inherited:
        return False
    try:
        return not os.get_inheritable(number) and _file(number) != _inherited[number]
    except OSError:
        return True


def _remember_standard() -> None:
    for number in STANDARD:
        with suppress(OSError):
            if os.get_inheritable(number):
                _inherited[number] = _file(number)


def _note_replaced(number: int, *, inheritable: bool) -> None:
    if not inheritable:
        _inherited.pop(number, None)  # it could not be told from one that was taken


def _file(number: int) -> tuple[int, int]:
    found = os.fstat(number)
    return found.st_dev, found.st_ino


def guard(owned: Callable[[], Iterable[int]]) -> None:
    """Have `os.close` and `os.dup2` refuse the descriptors that are `owned`, and
    `os.closerange` any others than its caller's: in this process, not in its forks.

    What is closed without Python's `os` is beyond us: the process ends then. A fork
    gives up what is `owned`: it may outlive this process, and a connection that stays
    open keeps its locks.
    """
    process = getpid()
    close, dup2 = os.close, os.dup2
    _remember_standard()

    def is_owned(descriptor: int) -> bool:
        # The process is about to end; until then, it is no fault of who has it now.
        if getpid() != process or has_lost(descriptor):
            return False
        return descriptor in {*STANDARD, *_of_multiprocessing(), *owned()}

    def close_guarded(fd: int) -> None:
        if is_owned(fd):
            _refuse(fd)
        close(fd)

    def dup2_guarded(fd: int, fd2: int, inheritable: bool = True) -> int:
        if fd2 not in STANDARD and is_owned(fd2):
            _refuse(fd2)
        _note_replaced(fd2, inheritable=inheritable)
        return dup2(fd, fd2, inheritable)

    def give_up() -> None:
        with suppress(OSError):
            nothing = os.open(os.devnull, os.O_RDWR)
            # Not closed: whatever is still there of the parent's objects may close it.
            for descriptor in owned():
                dup2(nothing, descriptor, inheritable=False)
            close(nothing)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=give_up)
    os.close, os.dup2 = close_guarded, dup2_guarded
    _guard_ranges(process)


def _guard_ranges(process: int) -> None:
    closerange = os.closerange

    def closerange_guarded(fd_low: int, fd_high: int, /) -> None:
        if getpid() == process:
            raise RuntimeError(
                "os.closerange() is for forks: other jobs have files open here"
            )
        closerange(fd_low, fd_high)

    os.closerange = closerange_guarded


def _refuse(descriptor: int) -> NoReturn:
    reason = f"descriptor {descriptor} belongs to the worker process"
    raise OSError(errno.EBADF, reason)


def _of_multiprocessing() -> set[int]:
    """Return the pipes that tell the end of our parent and lead to the tracker."""
    parent = multiprocessing.parent_process()
    tracker = getattr(resource_tracker, "_resource_tracker", None)
    found = {getattr(tracker, "_fd", None), parent.sentinel if parent else None}
    return {descriptor for descriptor in found if descriptor is not None}
