"""Runs a program to its end: writes its stdin, reads its output, stops it at its
timeout.

A program gets a process group of its own, so that a stop reaches what it has started,
and nothing of the group outlives the call. On Linux it dies with this process. POSIX
only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

GRACE = 5.0  # seconds between SIGTERM and SIGKILL

_LOOK = 0.05  # seconds between two looks at the clock and at `is_canceled`
_CHUNK = 65536
# Reads of each pipe after the program has ended: another process may hold it open and
# write for ever.
_LAST_READS = 64

# Looked up before the fork: the child of a process with threads must not import or take
# locks.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
# Signals that our parent may have ignored or blocked, as nohup does.
_HEARD = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "TSTP")


# Errors that are temporary shortages of the host; any other error is about the program.
_SHORTAGES = {
    errno.EAGAIN,
    errno.EDQUOT,
    errno.EINTR,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
}


class CannotStart(Exception):
    """The system could not start a program.

    `passing` if it is a temporary shortage, which would fail any other program, too.
    """

    def __init__(self, reason: str, *, passing: bool) -> None:
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended: `status` is the exit code, or minus the signal that killed
    it.

    `stopped` is "timeout" or "canceled" if it was told to end. `stdout` and `stderr`
    are the last bytes of each, one more than was asked for if there were more.
    """

    status: int
    stopped: str | None
    stdout: bytes
    stderr: bytes


def run(
    command: Sequence[str],
    *,
    data: bytes,
    environment: Mapping[str, str],
    timeout: float,
    is_canceled: Callable[[], bool],
    keep: int,
) -> Ending:
    """Run a program with `data` on stdin; raises CannotStart.

    After `timeout` seconds, or when `is_canceled` says so, its group gets TERM, and
    KILL five seconds later.
    """
    with _started(command, environment, data, keep) as program:
        stopped = _follow(program, timeout, is_canceled)
        _end_group(program.process)
        return Ending(
            program.process.returncode,
            stopped,
            bytes(program.tails["stdout"]),
            bytes(program.tails["stderr"]),
        )


@dataclass(slots=True)
class _Program:
    process: subprocess.Popen[bytes]
    selector: selectors.BaseSelector
    rest: memoryview  # the part of `data` not yet written to its stdin
    keep: int
    tails: dict[str, bytearray] = field(
        default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()}
    )


@contextlib.contextmanager
def _started(
    command: Sequence[str], environment: Mapping[str, str], data: bytes, keep: int
) -> Iterator[_Program]:
    """Start a program; if that fails, leave no process and no descriptor behind."""
    with contextlib.ExitStack() as stack:
        try:
            # First, because it needs a descriptor, which may be the last one.
            selector = stack.enter_context(selectors.DefaultSelector())
            _need_descriptors(8)
            process = _start(command, environment)
        except OSError as error:
            passing = error.errno in _SHORTAGES
            reason = error.strerror or str(error)
            raise CannotStart(reason, passing=passing) from error
        except (subprocess.SubprocessError, ValueError) as error:
            passing = isinstance(error, subprocess.SubprocessError)
            raise CannotStart(str(error), passing=passing) from error
        stack.callback(_close_pipes, process)
        stack.callback(_end_group, process)
        _register(selector, process, stack)
        yield _Program(process, selector, memoryview(data), keep)


def _need_descriptors(count: int) -> None:
    """Raise OSError unless this many descriptors are free.

    A Popen that runs out of them half-way leaves its first pipes open before Python
    3.11.4, and a worker would never recover.
    """
    taken: list[int] = []
    try:
        while len(taken) < count:
            taken += os.pipe()
    finally:
        for descriptor in taken:
            os.close(descriptor)


def _start(
    command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment,
        start_new_session=True,
        # Ignored signals stay ignored in a program, and blocked ones stay blocked: a
        # shell could not even trap them. Only a function in the child can change that,
        # or set the death signal. It takes no lock.
        preexec_fn=child_preparation(os.getpid()),  # noqa: PLW1509 - see above
    )


def child_preparation(parent: int) -> Callable[[], None]:
    """Return the preexec function of a child: unblock signals, die with this
    process.
    """
    numbers = [getattr(signal, f"SIG{name}") for name in _HEARD]

    def prepare() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            # The parent died before the death signal was set.
            if os.getppid() != parent:
                os._exit(1)

    return prepare


def _register(
    selector: selectors.BaseSelector,
    process: subprocess.Popen[bytes],
    stack: contextlib.ExitStack,
) -> None:
    for name, events in (
        ("stdin", selectors.EVENT_WRITE),
        ("stdout", selectors.EVENT_READ),
        ("stderr", selectors.EVENT_READ),
    ):
        pipe = getattr(process, name)
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe, events, name)
    if hasattr(os, "pidfd_open"):
        # Without a pidfd, the end of a program whose pipes another process holds open
        # is noticed at the next look.
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(process.pid)
            stack.callback(os.close, descriptor)
            selector.register(descriptor, selectors.EVENT_READ, "end")


def _follow(
    program: _Program, timeout: float, is_canceled: Callable[[], bool]
) -> str | None:
    """Serve the program until it ends; return why it was stopped, if it was."""
    deadline = time.monotonic() + timeout
    stopped: str | None = None
    while not _has_ended(program.process):
        now = time.monotonic()
        if stopped is not None:
            if now >= deadline:
                _signal_group(program.process, signal.SIGKILL)
                deadline = now + GRACE
        elif now >= deadline or is_canceled():
            stopped = "timeout" if now >= deadline else "canceled"
            _signal_group(program.process, signal.SIGTERM)
            deadline = now + GRACE
        _pump(program, min(_LOOK, max(deadline - now, 0.0)))
    # Its last output is still in the pipes. A process that inherited them may keep them
    # open, and even write for ever.
    for _ in range(_LAST_READS):
        if not _pump(program, 0.0):
            break
    return stopped


def _pump(program: _Program, patience: float) -> bool:
    """Read from and write to the pipes that are ready; return whether anything was
    read.
    """
    moved = False
    for key, _ in program.selector.select(patience):
        if key.data == "end":
            program.selector.unregister(key.fileobj)
        elif key.data == "stdin":
            _write(program, key.fileobj)
        else:
            moved = _read(program, key.fileobj, program.tails[key.data]) or moved
    return moved


def _write(program: _Program, pipe: Any) -> None:
    try:
        if program.rest:
            written = os.write(pipe.fileno(), program.rest[:_CHUNK])
            program.rest = program.rest[written:]
    except BlockingIOError:
        return
    except OSError:
        # It has closed its stdin: the rest is not needed.
        program.rest = memoryview(b"")
    if not program.rest:
        program.selector.unregister(pipe)
        pipe.close()


def _read(program: _Program, pipe: Any, tail: bytearray) -> bool:
    try:
        data = os.read(pipe.fileno(), _CHUNK)
    except BlockingIOError:
        return False
    if not data:
        program.selector.unregister(pipe)
        return False
    tail += data
    del tail[: -(program.keep + 1)]
    return True


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether the program has ended, and leave it a zombie.

    As long as it is a zombie, its process group id cannot be reused.
    """
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        return os.waitid(os.P_PID, process.pid, options) is not None
    except ChildProcessError:
        return True


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the rest of the process group, and reap the program."""
    if process.returncode is None:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
