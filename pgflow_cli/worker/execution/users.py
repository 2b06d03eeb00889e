"""Keeps handlers from changing user or groups of the process that they share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from os import getpid
from typing import Any

_CHANGES = (
    "setuid",
    "seteuid",
    "setreuid",
    "setresuid",
    "setgid",
    "setegid",
    "setregid",
    "setresgid",
    "setgroups",
    "initgroups",
)
# The process in which they are refused, and the ids that it had then.
_kept: list[tuple[int, tuple[int, ...]]] = []


def guard() -> None:
    """Have `keep` make the functions of `os` that change users and groups refuse; to be
    called before any code that may take them out of `os` is imported.

    What an application changes while it is imported is its own affair.
    """
    for name in _CHANGES:
        if hasattr(os, name):
            setattr(os, name, _guarded(name, getattr(os, name)))


def keep() -> None:
    """Refuse changes from here on: in this process, not in its forks."""
    _kept[:] = [(getpid(), _ids())]


def have_changed() -> bool:
    """Say whether this process has changed all the same, by code that is not Python's:
    then every job in it runs as another user.
    """
    return bool(_kept) and _ids() != _kept[0][1]


def _ids() -> tuple[int, ...]:
    if not hasattr(os, "getresuid"):
        return ()
    return *os.getresuid(), *os.getresgid()


def _guarded(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(change)
    def refuse_or_change(*args: Any, **rest: Any) -> Any:
        if _kept and getpid() == _kept[0][0]:
            # No OSError: what falls back to the user that it has would run on as that.
            raise RuntimeError(
                f"os.{name}() is for forks: other jobs run in this process, and would"
                " run as another user, too"
            )
        return change(*args, **rest)

    return refuse_or_change
