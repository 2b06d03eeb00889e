"""What a worker process shows its supervisor, in memory that both can see.

A handler may hold the interpreter lock, or the process may be frozen or dead: the
supervisor must still know which leases to extend, which jobs had started, and whose
time is over. Messages would need a process that still speaks.
"""

from __future__ import annotations

import ctypes
import math
import re
import struct
from collections.abc import Collection
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from random import sample
from typing import Any

from pgflow_cli.formats.clock import monotonic

# When the loop last turned, when a heartbeat last succeeded, in monotonic seconds;
# whether a job has been settled; when jobs were last leased, when there was last a
# reason to lease none, when the connections' loops have all last turned; whether the
# database has answered one; when the look began that found nothing left.
_HEADER = struct.Struct("=dddddddd")
_RENEWED, _PROVEN, _LEASED, _OCCUPIED, _CYCLED, _REACHED = 8, 16, 24, 32, 40, 48
_DRAINED = 56
_LEASE = struct.Struct("=36sd")  # lease id; valid until, monotonic seconds
_RUN = struct.Struct("=36s36sdddiii")
_START = struct.calcsize("d")
_ID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOTHING = b"\0" * 36

GONE = -1.0  # written into a lease's place when its row no longer exists


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that has started; times are monotonic seconds, comparable between processes
    of a host.
    """

    started: float
    lease_id: str
    job_id: str
    deadline: float
    progress: tuple[float, float]
    attempt_no: int
    failed_attempts: int
    max_attempts: int


class SharedMemory:
    """A fixed table: places for jobs that have started, then places for leases.

    A job keeps its place until its settlement is confirmed: what a process had not
    settled when it died had started, and counts as lost. Each place has one writer at a
    time. A reader may see a place half written: an id that does not parse is passed
    over and read again at the next beat.
    """

    def __init__(self, memory: Any, runs: int, leases: int) -> None:
        self.memory, self.runs, self.leases = memory, runs, leases
        # When each run started; negative once it has ended, 0 if the place is free.
        # Apart from the rest, and read in one go: the supervisor looks ten times a
        # second, and most places are free.
        self._starts = (ctypes.c_double * runs).from_buffer(memory, _HEADER.size)
        self._run_base = _HEADER.size + runs * _START
        self._lease_base = self._run_base + runs * _RUN.size
        self._free = list(range(leases))
        self._places: dict[str, int] = {}
        self._proven = False

    @classmethod
    def create(cls, context: SpawnContext, runs: int, leases: int) -> SharedMemory:
        size = _HEADER.size + runs * (_START + _RUN.size) + leases * _LEASE.size
        return cls(context.RawArray(ctypes.c_char, size), runs, leases)

    def __reduce__(self) -> tuple[Any, ...]:
        return (SharedMemory, (self.memory, self.runs, self.leases))

    # The worker process writes.

    def turn(self) -> None:
        """Show that the loop turns."""
        struct.pack_into("=d", self.memory, 0, monotonic())

    def show_turn(self, since: float) -> None:
        """Show since when the loop of a connection has not turned."""
        struct.pack_into("=d", self.memory, _CYCLED, since)

    def reach(self) -> None:
        """Show that the database has answered a statement that leases."""
        struct.pack_into("=d", self.memory, _REACHED, 1.0)

    def occupy(self) -> None:
        """Show that there is reason to lease nothing: no slot is free for some type."""
        struct.pack_into("=d", self.memory, _OCCUPIED, monotonic())

    def show_drained(self, since: float) -> None:
        """Show when the look began that found nothing, where nothing was held and no
        other statement was on its way; 0 before a statement is sent that may lease.
        """
        struct.pack_into("=d", self.memory, _DRAINED, since)

    def renewed_at(self) -> float:
        """Return when the last successful heartbeat was sent."""
        return float(_HEADER.unpack_from(self.memory, 0)[1])

    def hold(self, lease_id: str, valid_until: float) -> None:
        place = self._places[lease_id] = self._free.pop()
        _LEASE.pack_into(
            self.memory, self._lease_at(place), lease_id.encode(), valid_until
        )
        struct.pack_into("=d", self.memory, _LEASED, monotonic())

    def drop(self, lease_id: str) -> None:
        place = self._places.pop(lease_id, None)
        if place is not None:
            _LEASE.pack_into(self.memory, self._lease_at(place), _NOTHING, 0.0)
            self._free.append(place)

    def valid_until(self, lease_id: str) -> float:
        """Return until when the lease is certainly ours; `GONE` once it has
        been lost.
        """
        place = self._places.get(lease_id)
        if place is None:
            return GONE
        at = self._lease_at(place) + _LEASE.size - 8
        return float(struct.unpack_from("=d", self.memory, at)[0])

    def start(
        self,
        place: int,
        lease_id: str,
        job_id: str,
        deadline: float,
        attempts: tuple[int, int, int],
    ) -> None:
        """Show that a job starts; `attempts` are its number, the failed ones, and how
        many may fail.
        """
        _RUN.pack_into(
            self.memory,
            self._run_at(place),
            lease_id.encode(),
            job_id.encode(),
            deadline,
            0.0,
            0.0,
            *attempts,
        )
        self._starts[place] = monotonic()

    def put_off(self, place: int, deadline: float) -> None:
        """Show that a job that runs has more time."""
        struct.pack_into("=d", self.memory, self._run_at(place) + 36 + 36, deadline)

    def progress(self, place: int, done: float, total: float) -> None:
        if not (math.isfinite(done) and math.isfinite(total)):
            return  # no JSON has it: the heartbeat of every lease would be refused
        at = self._run_at(place) + 36 + 36 + 8
        struct.pack_into("=dd", self.memory, at, done, total)

    def end(self, place: int) -> None:
        """Show that a job has ended, if it ever started; it is not settled yet."""
        self._starts[place] = -abs(self._starts[place])

    def free(self, place: int) -> None:
        """Show that what became of a job is known to the database."""
        if not self._proven and self._starts[place] < 0.0:
            self._proven = True
            struct.pack_into("=d", self.memory, _PROVEN, 1.0)
        self._starts[place] = 0.0

    # The supervisor reads, and answers.

    def turned_at(self) -> float:
        return float(_HEADER.unpack_from(self.memory, 0)[0])

    def cycled_at(self) -> float:
        return float(_HEADER.unpack_from(self.memory, 0)[5])

    def has_reached(self) -> bool:
        """Return whether the database has answered a statement that leases."""
        return bool(_HEADER.unpack_from(self.memory, 0)[6])

    def has_settled(self) -> bool:
        """Return whether the process has seen a job to its end."""
        return bool(_HEADER.unpack_from(self.memory, 0)[2])

    def drained_at(self) -> float:
        """Return when the look began that found nothing to lease; 0 if the process has
        held a job since, or may be about to.
        """
        return float(_HEADER.unpack_from(self.memory, 0)[7])

    def leased_at(self) -> float:
        """Return when jobs were last leased; 0 before the first."""
        return float(_HEADER.unpack_from(self.memory, 0)[3])

    def occupied_at(self) -> float:
        """Return when there was last a reason to lease nothing; 0 before the first."""
        return float(_HEADER.unpack_from(self.memory, 0)[4])

    def renew(self, sent: float) -> None:
        """Tell the process that a heartbeat, sent at that instant, has reached the
        database.
        """
        struct.pack_into("=d", self.memory, _RENEWED, sent)

    def held(self) -> dict[str, int]:
        """Return the leases that the process holds, and their places."""
        found = {}
        for place in range(self.leases):
            raw, _ = _LEASE.unpack_from(self.memory, self._lease_at(place))
            if _ID.fullmatch(raw):
                found[raw.decode()] = place
        return found

    def gone(self) -> list[str]:
        """Return the leases that the process holds and whose rows no longer exist."""
        places = (
            _LEASE.unpack_from(self.memory, self._lease_at(place))
            for place in range(self.leases)
        )
        return [raw.decode() for raw, until in places if until == GONE and any(raw)]

    def extend(self, lease_id: str, place: int, valid_until: float) -> None:
        """Tell the process how long a lease is certainly its own; `GONE` if it no
        longer is.
        """
        raw, _ = _LEASE.unpack_from(self.memory, self._lease_at(place))
        if raw == lease_id.encode():
            at = self._lease_at(place) + _LEASE.size - 8
            struct.pack_into("=d", self.memory, at, valid_until)

    def running(self) -> list[RunningJob]:
        """Return the jobs that have started and not ended."""
        return self._jobs([p for p, at in enumerate(self._starts[:]) if at > 0.0])

    def unsettled(self) -> list[RunningJob]:
        """Return the jobs that have started and are not settled, as far as the process
        knows.
        """
        return self._jobs([p for p, at in enumerate(self._starts[:]) if at])

    def _jobs(self, places: list[int]) -> list[RunningJob]:
        found = []
        for place in places:
            lease_id, job_id, deadline, done, total, *attempts = _RUN.unpack_from(
                self.memory, self._run_at(place)
            )
            started = abs(self._starts[place])
            if started and _ID.fullmatch(job_id) and _ID.fullmatch(lease_id):
                found.append(
                    RunningJob(
                        started,
                        lease_id.decode(),
                        job_id.decode(),
                        deadline,
                        (done, total),
                        *attempts,
                    )
                )
        return found

    def _run_at(self, place: int) -> int:
        return self._run_base + place * _RUN.size

    def _lease_at(self, place: int) -> int:
        return self._lease_base + place * _LEASE.size


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
            named = sample(named, self._places)
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
