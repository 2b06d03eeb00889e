"""Writes the lines of a log to a stream that may never be read, and waits for no
reader.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import threading
from collections import deque
from contextlib import suppress
from os import getpid
from typing import Any, NamedTuple, TextIO

from pgflow_cli.formats.clock import monotonic

MOST = 1_048_576  # bytes of lines that may wait in memory
PATIENCE = 1.0  # seconds that lines wait for room before they are dropped
# PIPE_BUF: a pipe takes this many bytes at once, so lines of several processes do not
# mix.
_PIECE = 4096
# On Linux a write with RWF_NOWAIT fails instead of blocking. So the line is written at
# once, before a handler can crash its process. For streams without it (_CANNOT_SAY) a
# thread writes every line.
_AT_ONCE = getattr(os, "RWF_NOWAIT", None)
_CANNOT_SAY = {errno.EOPNOTSUPP, errno.EINVAL, errno.ESPIPE, errno.ENOSYS}


class _Loss(NamedTuple):
    """How many lines are missing if this one is lost, and how many of them were not
    reported.
    """

    lines: int
    untold: int


_LINE = _Loss(1, 1)


class LineWriter(logging.Handler):
    """Writes each line at once if the stream takes it; else a thread writes it later.

    If nothing reads the stream, lines pile up in memory; once there has been no room
    for a second, they are dropped and counted. The next line that finds room says so.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream, self._descriptor = stream, _descriptor(stream)
        self._is_file = _is_file(self._descriptor)
        self._owner = getpid()
        self._changed = threading.Condition()
        # Each line with its `_Loss`: a line may itself report lost ones.
        self._waiting: deque[tuple[bytes, _Loss]] = deque()
        self._size = 0  # bytes that wait or are being written
        self._full_since: float | None = None
        self._thread: threading.Thread | None = None
        self._dropped = 0  # lines since `take_dropped` was called
        self._untold = 0  # dropped lines that no later line has reported
        self._why = ""
        self._at_once = _AT_ONCE

    def handle(self, record: logging.LogRecord) -> Any:
        """Filter and write a record without the handler's lock: `str` of an argument
        may be slow, or never return.
        """
        passed: Any = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; never raises, and waits for a second at most."""
        try:
            line = f"{self.format(record)}\n"
        except Exception:
            line = f"a log line cannot be formatted: {record.msg!r:.200}\n"
        if self._descriptor is None:
            self._print(line)
            return
        data = line.encode(errors="backslashreplace")
        if getpid() != self._owner:
            # A fork by a handler: it has none of our threads, and its locks are
            # useless.
            with suppress(OSError):
                while data:
                    data = data[os.write(self._descriptor, data) :]
            return
        with self._changed:
            if not (
                self._has_room(len(data)) and self._tell() and self._add(data, _LINE)
            ):
                self._drop(_LINE)

    def flush(self) -> None:
        """Wait until everything is written, for a second at most."""
        if getpid() != self._owner:
            return
        with self._changed:
            if self._full_since is None:
                self._tell()
            self._changed.wait_for(lambda: not self._size, PATIENCE)

    def is_waiting(self) -> bool:
        """Say whether lines wait to be read."""
        return self._size > 0

    def take_dropped(self) -> int:
        """Return how many lines were dropped since the last call."""
        with self._changed:
            taken, self._dropped = self._dropped, 0
        return taken

    def _print(self, line: str) -> None:
        """Write to a stream without a file descriptor."""
        if self._stream is None:
            self._dropped += 1
            return
        with self._changed, suppress(OSError, ValueError):
            self._stream.write(line)
            self._stream.flush()

    # Under the lock.

    def _has_room(self, size: int) -> bool:
        """Wait for room, until there has been none for a second."""
        if self._full_since is None and self._size + size > MOST:
            self._full_since = monotonic()
        while self._full_since is not None:
            left = self._full_since + PATIENCE - monotonic()
            if left <= 0 or not self._changed.wait(left):
                break
        return self._full_since is None

    def _drop(self, loss: _Loss) -> None:
        self._dropped += loss.lines
        self._untold += loss.untold

    def _tell(self) -> bool:
        """Report how many lines were dropped, if any; return whether the report is
        written.
        """
        told, self._untold = self._untold, 0
        if not told:
            return True
        record = logging.makeLogRecord(
            {
                "name": "pgflow",
                "levelname": "WARNING",
                "levelno": logging.WARNING,
                "msg": f"{told} log lines were dropped: {self._why}",
                "event": "log_lines_dropped",
                "count": told,
            }
        )
        loss = _Loss(0, told)
        written = self._add(f"{self.format(record)}\n".encode(), loss)
        if not written:
            self._drop(loss)
        return written

    def _add(self, data: bytes, loss: _Loss) -> bool:
        """Write a line or let it wait; return False if the stream refuses it."""
        if not self._size:
            try:
                data = self._try(data)
            except OSError as error:
                self._why = error.strerror or str(error)
                return False
        if data:
            self._waiting.append((data, loss))
            self._size += len(data)
            if self._thread is None:
                self._start()
            self._changed.notify_all()
        return True

    def _try(self, data: bytes) -> bytes:
        """Write what can be written without waiting; return the rest."""
        assert self._descriptor is not None
        if self._is_file:
            return data[os.write(self._descriptor, data) :]
        if self._at_once is None:
            return data
        try:
            return data[os.pwritev(self._descriptor, [data], -1, self._at_once) :]
        except BlockingIOError:
            return data
        except OSError as error:
            if error.errno not in _CANNOT_SAY:
                raise
            self._at_once = None
            return data

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="pgflow-log", daemon=True)
        with suppress(RuntimeError):  # no thread to be had: the next line tries again
            thread.start()
            self._thread = thread

    # The thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                piece = [self._waiting.popleft()]
                size = len(piece[0][0])
                while self._waiting and size + len(self._waiting[0][0]) <= _PIECE:
                    piece.append(self._waiting.popleft())
                    size += len(piece[-1][0])
            error = self._write(b"".join(data for data, _ in piece))
            with self._changed:
                self._size -= size
                if error is not None:
                    self._why = error.strerror or str(error)
                    for _, loss in piece:
                        self._drop(loss)
                if self._full_since is not None and self._size <= MOST // 2:
                    stood = monotonic() - self._full_since
                    self._why = f"nothing read the log for {stood:.0f} s"
                    self._full_since = None
                self._changed.notify_all()

    def _write(self, data: bytes) -> OSError | None:
        assert self._descriptor is not None
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Another program has set the stream to non-blocking; it shares the
                # stream.
                _await_room(self._descriptor)
            except OSError as error:
                return error
        return None


def is_stuck() -> bool:
    """Flush the log for a second at most; return whether nothing reads it."""
    writers = [h for h in logging.getLogger().handlers if isinstance(h, LineWriter)]
    for writer in writers:
        writer.flush()
    return any(writer.is_waiting() for writer in writers)


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None  # a stream in memory


def _is_file(descriptor: int | None) -> bool:
    try:
        return descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _await_room(descriptor: int) -> None:
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    ready.poll()
