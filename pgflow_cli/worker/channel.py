"""A socket between a supervisor and a worker process: messages go up, wake-ups down.

Neither side ever waits for the other to read, and half a message is no message: the
process that sent it may be frozen or dead.
"""

from __future__ import annotations

import errno
import pickle
import selectors
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("=I")
_LONGEST = 16_777_216  # bytes; what claims to be longer is no message of ours
_CHUNK = 65536
# Not multiprocessing's `wait`: its clock is whatever a handler has made of it.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
_READS = 64  # at most, before the caller gets on with other things


class Garbled(Exception):
    """What came through the channel is no message: a handler has written to it."""


class SupervisorGone(Exception):
    """The supervisor has ended."""


class ChannelLost(Exception):
    """A handler has closed our end of the channel."""


_NOT_OURS = (errno.EBADF, errno.ENOTSOCK)


class SupervisorEnd:
    """The supervisor's end."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._partial = bytearray()
        self.ended = False

    def fileno(self) -> int:
        return self._end.fileno()

    def wake(self) -> None:
        """Wake the process.

        If the socket is full, a wake-up waits there already; a process that is gone
        needs none.
        """
        try:
            self._end.send(b"\0")
        except OSError:
            return

    def receive(self) -> list[tuple[Any, ...]]:
        """Return the messages that have come in whole; raises Garbled.

        `ended` is set when there will be no more.
        """
        self._read()
        found = []
        while len(self._partial) >= _LENGTH.size:
            [length] = _LENGTH.unpack_from(self._partial)
            end = _LENGTH.size + length
            if length > _LONGEST:
                raise Garbled(f"a message of {length} bytes")
            if len(self._partial) < end:
                break
            found.append(_decoded(bytes(self._partial[_LENGTH.size : end])))
            del self._partial[:end]
        return found

    def close(self) -> None:
        self._end.close()

    def _read(self) -> None:
        try:
            for _ in range(_READS):
                data = self._end.recv(_CHUNK)
                if not data:
                    self.ended = True
                    return
                self._partial += data
        except BlockingIOError:
            return
        except OSError:
            self.ended = True


class WorkerEnd:
    """The worker process's end."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._unsent = bytearray()

    def __reduce__(self) -> tuple[Any, ...]:
        return (WorkerEnd, (self._end,))

    def send(self, kind: str, *values: Any) -> None:
        """Send a message, now or, if the supervisor does not read, at a later flush.

        Raises SupervisorGone or ChannelLost.
        """
        body = pickle.dumps((kind, *values))
        self._unsent += _LENGTH.pack(len(body)) + body
        self.flush()

    def flush(self) -> bool:
        """Send what was left unsent; return whether all has gone."""
        while self._unsent:
            try:
                sent = self._end.send(self._unsent)
            except BlockingIOError:
                return False
            except OSError as error:
                raise _loss(error) from error
            del self._unsent[:sent]
        return True

    def wait(self, seconds: float) -> bool:
        """Wait for a wake-up, so long at most; return whether there was one.

        Raises SupervisorGone or ChannelLost.
        """
        try:
            with _Selector() as selector:
                selector.register(self._end, selectors.EVENT_READ)
                selector.select(seconds)
            heard = self._end.recv(_CHUNK)
        except BlockingIOError:
            return False
        except (OSError, ValueError) as error:
            raise _loss(error) from error
        if not heard:
            raise SupervisorGone("it has closed its end")
        return True

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()


def _loss(error: OSError | ValueError) -> Exception:
    """Return the error that a failure of the channel means."""
    if isinstance(error, ValueError) or error.errno in _NOT_OURS:
        return ChannelLost(
            f"a handler has closed a descriptor that it did not open: {error}"
        )
    return SupervisorGone(str(error))


def pair() -> tuple[SupervisorEnd, WorkerEnd]:
    """Make both ends; raises OSError if there are no descriptors left."""
    ours, theirs = socket.socketpair()
    return SupervisorEnd(ours), WorkerEnd(theirs)


def _decoded(body: bytes) -> tuple[Any, ...]:
    try:
        kind, *values = pickle.loads(body)  # noqa: S301 - of our own process
    except Exception as error:
        raise Garbled(f"{type(error).__name__}: {error}") from error
    return kind, *values
