"""What a supervisor tells a worker process, in memory that both can see.

Flags, not messages: a process that reads nothing, because it is frozen or a handler
holds the interpreter, cannot hold up the one that tells it, and finds everything when
it goes on.
"""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Collection
from multiprocessing.context import SpawnContext
from typing import Any

_QUIET, _DRAIN, _RELEASE = 0, 1, 2  # a byte each: no flag's writer touches another's
_DUMPS, _ANSWER, _CANCELED = 4, 8, 12
_NUMBER = struct.Struct("=I")
_CANCELED_HEAD = struct.Struct(
    "=II"
)  # how often it was written, how many ids there are
_IDS = _CANCELED + _CANCELED_HEAD.size
_ID_SIZE = 36  # characters of a job's id


class Control:
    """A few flags, of which only `quiet` is ever taken back, then places for the ids of
    canceled jobs.

    The supervisor writes, the worker process reads and remembers what it has seen.
    """

    def __init__(self, memory: Any, places: int) -> None:
        self._memory, self._places = memory, places
        self._dumped = self._seen = 0

    @classmethod
    def create(cls, context: SpawnContext, places: int) -> Control:
        size = _IDS + places * _ID_SIZE
        return cls(context.RawArray(ctypes.c_char, size), places)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Control, (self._memory, self._places))

    # The supervisor writes.

    def quiet(self, quiet: bool = True) -> None:
        """Have it lease nothing, or lease again."""
        self._memory[_QUIET] = int(quiet)

    def drain(self) -> None:
        """Have it end after what runs."""
        self._memory[_DRAIN] = 1

    def release(self) -> None:
        """Have it give back what runs, and end."""
        self._memory[_RELEASE] = 1

    def dump(self) -> None:
        """Have it log its stacks, once more."""
        [number] = _NUMBER.unpack_from(self._memory, _DUMPS)
        _NUMBER.pack_into(self._memory, _DUMPS, number + 1)

    def answer(self, number: int, *, taken: bool) -> None:
        """Answer its question of that number: whether a spare process has taken over
        its suspect.
        """
        _NUMBER.pack_into(self._memory, _ANSWER, 2 * number + taken)

    def cancel(self, job_ids: Collection[str]) -> None:
        """Name the canceled jobs among those it holds; only one thread may.

        To be said again as long as it holds their leases: of more than there are places
        for, each time others are named.
        """
        named = [*job_ids]
        if len(named) > self._places:
            named = random.sample(named, self._places)
        ids = "".join(named).encode()
        self._memory[_IDS : _IDS + len(ids)] = ids
        [number, _] = _CANCELED_HEAD.unpack_from(self._memory, _CANCELED)
        _CANCELED_HEAD.pack_into(self._memory, _CANCELED, number + 1, len(named))

    # The worker process reads.

    def is_quiet(self) -> bool:
        return bool(self._memory[_QUIET] != b"\0")

    def is_draining(self) -> bool:
        return bool(self._memory[_DRAIN] != b"\0")

    def is_releasing(self) -> bool:
        return bool(self._memory[_RELEASE] != b"\0")

    def answered(self) -> tuple[int, bool]:
        """Return the number of the question that was answered last, 0 before the
        first, and whether its suspect was taken over.
        """
        [answer] = _NUMBER.unpack_from(self._memory, _ANSWER)
        return answer // 2, bool(answer % 2)

    def wants_dump(self) -> bool:
        """Say whether stacks were asked for since the last call."""
        [number] = _NUMBER.unpack_from(self._memory, _DUMPS)
        asked, self._dumped = number != self._dumped, number
        return bool(asked)

    def canceled(self) -> set[str]:
        """Return the canceled jobs if they were written since the last call.

        An id that is half written names no job; it is written again.
        """
        number, count = _CANCELED_HEAD.unpack_from(self._memory, _CANCELED)
        if number == self._seen:
            return set()
        self._seen = number
        ids = self._memory[_IDS : _IDS + count * _ID_SIZE].decode(errors="replace")
        return {ids[at : at + _ID_SIZE] for at in range(0, len(ids), _ID_SIZE)}
