"""What a worker process sees to before it runs code that is not ours."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any, NoReturn

from pgflow_cli.handlers import tasks
from pgflow_cli.handlers.job import current, fields
from pgflow_cli.telemetry import log_guard, log_writer, logs, streams
from pgflow_cli.worker.execution import event_loop, executables, threads, users
from pgflow_cli.worker.execution.threads import OwnThread

log = logging.getLogger("pgflow.worker")

FAILED = 70  # exit code of a process that cannot go on
FLUSH = 2.0  # seconds that log handlers may take at the end

_GROUP = ("SIGINT", "SIGTERM", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTSTP")
# Of timers that a handler sets, whose own function no thread but the first could set.
_TIMERS = ("SIGALRM", "SIGVTALRM", "SIGPROF")
_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_DUMPABLE = 4


def group_signals() -> set[signal.Signals]:
    """Return the signals that a terminal or an operator sends to all processes of a
    worker; the supervisor alone decides.
    """
    return {getattr(signal, name) for name in _GROUP if hasattr(signal, name)}


def passed_over() -> set[signal.Signals]:
    """Return the signals that worker processes ignore."""
    timers = {getattr(signal, name) for name in _TIMERS if hasattr(signal, name)}
    return group_signals() | timers


def ignore_signals() -> None:
    """Ignore what the supervisor decides on, also if it has come already, and what
    would end every job of the process for a timer of one.

    By a function: what is ignored by SIG_IGN stays ignored in every program that a
    handler starts, which could then not be terminated.
    """
    for number in passed_over():
        signal.signal(number, _pass_over)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, group_signals())


def have_forks_hear() -> None:
    """Have processes that handlers fork hear the signals that this one passes over,
    also those that come before their own handlers are in place.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_hold, after_in_parent=_release, after_in_child=_hear
        )


_held = threading.local()  # the signals that the forking thread has blocked otherwise


def _hold() -> None:
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, group_signals())


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def _pass_over(_number: int, _frame: FrameType | None) -> None:
    """Do nothing."""


def _hear() -> None:
    for number in passed_over():
        if signal.getsignal(number) is _pass_over:
            usual = signal.default_int_handler
            signal.signal(number, usual if number == signal.SIGINT else signal.SIG_DFL)
    _release()


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the closed pipe
    must do.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(0)  # it died before it could be asked


def hide_memory() -> None:
    """Keep programs that handlers start from reading our environment and memory.

    On Linux, /proc/PID/environ and the like are root's from here on, and nothing but
    root can trace this process. A program that it starts is its own again.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def start_tracker() -> None:
    """Start multiprocessing's tracker without the worker's secrets in its environment,
    which programs of the same user can read; no signal to the whole group ends it.
    Before there are other threads.

    Where no process can be started at the moment it is left to the first one that is.
    """
    if not hasattr(resource_tracker, "ensure_running"):
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, group_signals())
    withheld = {n: v for n, v in os.environ.items() if executables.is_withheld(n)}
    for name in withheld:
        del os.environ[name]
    try:
        with contextlib.suppress(OSError):
            resource_tracker.ensure_running()
    finally:
        os.environ.update(withheld)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only here

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def take() -> None:
    """Be robust towards what handlers print and leave unhandled; before any is
    imported.
    """
    for stream in (sys.stdout, sys.stderr):
        streams.make_robust(stream)
    log_guard.install()
    have_forks_hear()
    users.guard()
    threads.remember_jobs()
    tasks.separate()
    event_loop.keep_running_loops()
    threading.excepthook = _note_thread
    sys.unraisablehook = _note_unraisable


def take_again() -> None:
    """Undo what applications do when they are imported: catch our signals, replace the
    hook that ends a process without one of its own threads. The user that they have
    chosen stays.
    """
    ignore_signals()
    users.keep()
    theirs = threading.excepthook

    def end_or_pass_on(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.thread, OwnThread):
            try:
                logs.note_thread(args)
            finally:
                end(FAILED)
        theirs(args)

    threading.excepthook = end_or_pass_on


def end(code: int) -> NoReturn:
    """End this process without waiting for threads that ignored their timeout, nor for
    long for the log handlers of an application.
    """
    try:
        ending = threading.Thread(target=_end_logs, daemon=True)
        ending.start()
        ending.join(FLUSH)
    finally:
        os._exit(code)


def _end_logs() -> None:
    log_writer.is_stuck()  # ours first: theirs may never return
    log_guard.flush(FLUSH / 2)
    logging.shutdown()


def _note_thread(args: threading.ExceptHookArgs) -> None:
    """Log that a thread of a handler or of a library has ended with an exception."""
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    log.error(
        "a thread that is not pgflow's has ended with %s",
        args.exc_type.__name__,
        exc_info=args.exc_value,
        extra={**threads.job_of(args.thread), "event": "handler_thread_failed"},
    )


def _note_unraisable(args: Any) -> None:
    """Log an exception that Python can raise nowhere, in a destructor for one."""
    job = current.get()
    log.error(
        "%s in %s",
        args.err_msg or "an exception was ignored",
        type(args.object).__name__,
        exc_info=args.exc_value,
        extra={**(fields(job) if job else {}), "event": "unraisable"},
    )
