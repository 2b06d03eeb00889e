"""Keeps handlers from lowering the resource limits of the process that they share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from os import getpid
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Those by which a process takes files, memory, threads or time from all its jobs.
_NAMES = ("AS", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC")
_SHARED: list[int] = [
    getattr(resource, f"RLIMIT_{name}")
    for name in _NAMES
    if hasattr(resource, f"RLIMIT_{name}")
]
# The process in which they are kept, and what they were then.
_kept: list[tuple[int, dict[int, float]]] = []


def guard() -> None:
    """Have `keep` make the functions of `resource` refuse to lower limits; to be called
    before any code is imported that may take them out of it.

    What an application sets while it is imported is its own affair.
    """
    if resource is None:
        return
    resource.setrlimit = _guarded_setrlimit(resource.setrlimit)
    if hasattr(resource, "prlimit"):
        resource.prlimit = _guarded_prlimit(resource.prlimit)


def keep() -> None:
    """Refuse lower limits from here on: in this process, not in its forks."""
    _kept[:] = [(getpid(), {each: _soft(each) for each in _SHARED})]


def are_lowered() -> bool:
    """Say whether limits are lower all the same, by code that is not Python's or from
    outside: then what any job in this process does may fail.
    """
    return any(_soft(each) < most for _, kept in _kept for each, most in kept.items())


def _soft(number: int) -> float:
    return _amount(resource.getrlimit(number)[0])


def _amount(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _refuse_lower(number: int, limits: tuple[int, int]) -> None:
    for process, kept in _kept:
        if getpid() == process and _amount(limits[0]) < kept.get(number, 0.0):
            raise RuntimeError(
                "lower limits are for forks and programs: other jobs run in this"
                " process, and would fail, too"
            )


def _guarded_setrlimit(change: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(change)
    def setrlimit(number: int, limits: tuple[int, int], /) -> Any:
        _refuse_lower(number, limits)
        return change(number, limits)

    return setrlimit


def _guarded_prlimit(change: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(change)
    def prlimit(pid: int, number: int, *limits: tuple[int, int]) -> Any:
        if limits and pid in (0, getpid()):
            _refuse_lower(number, limits[0])
        return change(pid, number, *limits)

    return prlimit
