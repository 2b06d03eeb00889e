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


def guard(owned: Callable[[], Iterable[int]]) -> None:
    """Have `os.close` and `os.dup2` refuse the descriptors that are `owned`, and
    `os.closerange` any others than its caller's: in this process, not in its forks.

    What is closed without Python's `os` is beyond us: the process ends then. A fork
    gives up what is `owned`: it may outlive this process, and a connection that stays
    open keeps its locks.
    """
    process = getpid()
    close, dup2 = os.close, os.dup2

    def is_owned(descriptor: int) -> bool:
        if getpid() != process:
            return False
        return descriptor in {*STANDARD, *_of_multiprocessing(), *owned()}

    def close_guarded(fd: int) -> None:
        if is_owned(fd):
            _refuse(fd)
        close(fd)

    def dup2_guarded(fd: int, fd2: int, inheritable: bool = True) -> int:
        if fd2 not in STANDARD and is_owned(fd2):
            _refuse(fd2)
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
