"""What the handlers noted: which job started when, and when its producer sent it."""

from __future__ import annotations

import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_ROW = 3 * 8


class Start(NamedTuple):
    """When a job was sent and when its handler started, in seconds since 1970."""

    number: int
    sent: float
    at: float


class WrongJobs(Exception):
    """A job ran too often, or too seldom, or one that was not sent did."""


@dataclass(frozen=True)
class Starts:
    """The notes in a folder, of which each worker process writes a file."""

    folder: Path

    def clear(self) -> None:
        """Forget the notes of workers that have ended."""
        for path in self.folder.iterdir():
            path.unlink()

    def count(self) -> int:
        return sum(path.stat().st_size // _ROW for path in self.folder.iterdir())

    def of(self, first: int, jobs: int, *, each: int = 1) -> list[Start]:
        """The starts of these jobs, in the order of their time.

        Raises WrongJobs if one of them started more often than `each`.
        """
        found = [row for row in self._read() if first <= row.number < first + jobs]
        often = Counter(row.number for row in found)
        if wrong := sum(times > each for times in often.values()):
            raise WrongJobs(f"{wrong} jobs started more often than {each} times")
        return sorted(found, key=lambda row: row.at)

    def _read(self) -> list[Start]:
        rows = []
        for path in self.folder.iterdir():
            data = path.read_bytes()
            numbers = array.array("d", data[: len(data) // _ROW * _ROW])
            rows += [
                Start(int(numbers[n]), numbers[n + 1], numbers[n + 2])
                for n in range(0, len(numbers), 3)
            ]
        return rows


def rate(starts: list[Start]) -> float:
    """Jobs per second from the first start to the last."""
    if len(starts) < 2 or starts[-1].at <= starts[0].at:
        return 0.0
    return (len(starts) - 1) / (starts[-1].at - starts[0].at)


def waits(starts: list[Start], missing: int, *, at_least: float) -> list[float]:
    """Milliseconds from the producer's call to the handler's start, sorted.

    Jobs that have not started have waited `at_least` so long, and count with that.
    """
    took = [(start.at - start.sent) * 1000 for start in starts]
    return sorted(took + [at_least] * missing)
