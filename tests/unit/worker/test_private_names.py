"""What a worker uses of CPython and asyncio that no documentation promises.

A release of Python that changes one of these fails here, by name, before a worker does
less than it says: most of them are asked for in a way that does without.
"""

from __future__ import annotations

import ast
import asyncio
import contextvars
import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing import resource_tracker, util
from pathlib import Path
from typing import Any

import pytest

import pgflow_cli
from pgflow_cli.worker.execution import event_loop

PACKAGE = Path(pgflow_cli.__file__).parent
PYTHON = f"Python {sys.version_info.major}.{sys.version_info.minor}"


def loop() -> asyncio.AbstractEventLoop:
    return event_loop._Loop()


def handle() -> asyncio.Handle:
    made = loop()
    try:
        return made.call_soon(print)
    finally:
        made.close()


# Name: whose it is, and what is gone without it.
NAMES: dict[str, tuple[Callable[[], object], str]] = {
    "_run": (
        lambda: asyncio.Handle,
        "event_loop.SharedLoop.look: the step that blocks the loop is not found",
    ),
    "_context": (
        handle,
        "tasks.owner: an error in a callback is logged without its job",
    ),
    "_closed": (
        loop,
        "event_loop._Loop: a handler can mark the loop of all jobs as closed",
    ),
    "_ready": (
        loop,
        "event_loop.SharedLoop._forked: a fork runs the coroutines of other jobs",
    ),
    "_run_once": (
        loop,
        "event_loop.SharedLoop._forked: a fork runs the coroutines of other jobs",
    ),
    "_selector": (
        loop,
        "event_loop.SharedLoop.descriptors: a handler can close the loop's selector",
    ),
    "_ssock": (
        loop,
        "event_loop.SharedLoop.descriptors: a handler can close the loop's pipe",
    ),
    "_csock": (
        loop,
        "event_loop.SharedLoop.descriptors: a handler can close the loop's pipe",
    ),
    "_set_running_loop": (
        lambda: asyncio.events,
        "event_loop.keep_running_loops: a handler can take the loop away from its"
        " thread",
    ),
    "_get_running_loop": (
        lambda: asyncio.events,
        "event_loop.keep_running_loops: a handler can take the loop away from its"
        " thread",
    ),
    "_current_frames": (
        lambda: sys,
        "event_loop.SharedLoop.look, logs.say_stacks: what blocks is not found",
    ),
    "_getframe": (lambda: sys, "event_loop.keep_running_loops, App.job"),
    "_exit_function": (
        lambda: util,
        "process.leave_behind: an end waits for a process that hangs in the kernel",
    ),
    "_resource_tracker": (
        lambda: resource_tracker,
        "descriptors.guard: a handler can close the pipe to multiprocessing's tracker",
    ),
    "_fd": (
        lambda: resource_tracker._resource_tracker,
        "descriptors.guard: a handler can close the pipe to multiprocessing's tracker",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_this_python_has_the_private_names_that_a_worker_uses(name: str) -> None:
    owner, why = NAMES[name]
    found = owner()
    assert hasattr(found, name), f"{PYTHON} has no {name} in {found!r}: {why}"
    if isinstance(found, asyncio.AbstractEventLoop):
        found.close()


def test_no_other_private_name_is_used() -> None:
    """What is new is written down above, with what is gone without it."""
    used = {name for path in files() for name in foreign(path)}
    documented = {"_exit", "_asdict", "_replace"}  # of os, of named tuples
    assert used - documented == {*NAMES}


def files() -> Iterator[Path]:
    for folder in ("worker", "handlers", "telemetry"):
        yield from (PACKAGE / folder).rglob("*.py")


def foreign(path: Path) -> set[str]:
    """Return the private names in a module that none of these modules defines."""
    return private(ast.parse(path.read_text(encoding="utf-8"))) - own()


def private(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef) and node.name in NAMES:
            found.add(node.name)  # overridden
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # of getattr and setattr
    return {
        n for n in found if n.startswith("_") and n.isidentifier() and n[1:2] != "_"
    }


@cache
def own() -> set[str]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.Assign) and "__slots__" in ast.unparse(node):
                found |= private(node)
    return {*found, "_pgflow_job", "_repeats", "_archive"} - {*NAMES}


# That they still mean what they are used for.


def test_a_loop_runs_its_handles_by_run_with_itself_in_a_frame() -> None:
    shared = event_loop.SharedLoop(lambda: None)
    begun, go_on = threading.Event(), threading.Event()

    def blocks() -> None:
        begun.set()
        go_on.wait(30)

    shared.call(blocks)
    try:
        assert begun.wait(30)
        step = shared._running_step()
        assert isinstance(step, asyncio.Handle), (
            f"{PYTHON}: no frame of asyncio.Handle._run with a local `self` is found"
            " in the thread of a loop that is blocked"
        )
    finally:
        go_on.set()
        shared.end()


def test_a_loop_turns_by_run_once_and_runs_what_is_ready() -> None:
    made = loop()
    turns: list[int] = []
    once = made._run_once  # type: ignore[attr-defined]

    def counted() -> None:
        turns.append(len(made._ready))  # type: ignore[attr-defined]
        once()

    made._run_once = counted  # type: ignore[attr-defined]
    made.call_soon(made.stop)
    made.run_forever()
    made.close()
    assert turns == [1], f"{PYTHON}: run_forever() does not turn by _run_once()"


def test_a_loop_asks_closed_whether_it_is() -> None:
    made = loop()
    assert not made.is_closed()
    made._closed = True  # type: ignore[attr-defined]
    assert made.is_closed(), f"{PYTHON}: is_closed() does not look at _closed"
    made._closed = False  # type: ignore[attr-defined]
    made.close()
    assert made._closed  # type: ignore[attr-defined]


def test_a_loop_says_that_it_runs_from_asyncio_base_events() -> None:
    callers: list[Any] = []
    told = asyncio.events._set_running_loop

    def note(running: asyncio.AbstractEventLoop | None) -> None:
        callers.append(sys._getframe(1).f_globals["__name__"])
        told(running)

    made = loop()
    made.call_soon(made.stop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.events, "_set_running_loop", note)
        made.run_forever()
    made.close()
    assert callers == ["asyncio.base_events"] * 2, PYTHON


def test_a_handle_keeps_the_context_that_it_was_given() -> None:
    made, context = loop(), contextvars.copy_context()
    given = made.call_soon(print, context=context)
    made.close()
    assert given._context is context, PYTHON  # type: ignore[attr-defined]


def test_the_descriptors_that_a_worker_guards_are_found() -> None:
    shared = event_loop.SharedLoop(lambda: None)
    try:
        found = shared.descriptors()
    finally:
        shared.end()
    assert len({*found}) == 3, f"{PYTHON}: of a loop's descriptors only {found}"


def test_multiprocessing_waits_for_children_by_its_exit_function() -> None:
    resource_tracker.ensure_running()
    assert isinstance(resource_tracker._resource_tracker._fd, int), PYTHON
    assert multiprocessing.util is util
    assert callable(util._exit_function), PYTHON  # type: ignore[attr-defined]
