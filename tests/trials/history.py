"""What producers and handlers write down outside the queue: a JSON line per event.

A line is on the disk before the call returns, so that what a killed process had done is
known afterwards. Times are of the host's monotonic clock, which all processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Taken at import: a trial may patch the module's function.
_clock = time.monotonic


class Scribe:
    """Appends events to a file that several processes may share."""

    def __init__(self, path: Path) -> None:
        # Appending in one write keeps the lines of several processes whole.
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def __call__(self, event: str, **fields: object) -> None:
        line = json.dumps({"event": event, "at": _clock(), **fields}) + "\n"
        os.write(self._file, line.encode())
        os.fsync(self._file)


@dataclass(frozen=True, slots=True)
class Run:
    """One call of a handler; `ended` and `result` are None if it never said so."""

    job_id: str
    attempt_no: int
    pid: int
    started: float
    ended: float | None = None
    result: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Return the attempt that it was."""
        return self.job_id, self.attempt_no


@dataclass(frozen=True, slots=True)
class Restore:
    """The database went back to a dump.

    `dumped` is a time before the dump was begun, `ended` one after it was restored.
    `kept` are the attempts with an outcome at the former: the dump has them.
    """

    dumped: float
    ended: float
    kept: frozenset[tuple[str, int]]


@dataclass
class History:
    """Everything that producers tried and handlers ran.

    `tried` maps the id of a job to its type, `acknowledged` holds the ids whose enqueue
    was confirmed and that no restore may have lost, `unconfirmed` counts calls by the
    error they ended with.
    """

    tried: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    unconfirmed: Counter[str] = field(default_factory=Counter)
    runs: list[Run] = field(default_factory=list)
    restores: list[Restore] = field(default_factory=list)

    @classmethod
    def read(
        cls,
        producers: Iterable[Path],
        handlers: Iterable[Path],
        restores: Iterable[Path] = (),
    ) -> History:
        """Read the files of producers, of handlers and of restores."""
        history = cls(restores=_restores(_lines(restores)))
        for line in _lines(producers):
            if line["event"] == "try":
                history.tried[line["id"]] = line["job_type"]
            elif line["event"] == "acknowledged":
                if not history.may_have_lost(line["at"]):
                    history.acknowledged.add(line["id"])
            else:
                history.unconfirmed[line["error"]] += 1
        history.runs = _runs(_lines(handlers))
        return history

    def may_have_lost(self, at: float) -> bool:
        """Return whether a restore may have lost what was confirmed at a time."""
        return any(one.dumped <= at <= one.ended for one in self.restores)

    def is_forgotten(self, run: Run) -> bool:
        """Return whether a restore may have lost that a run began or how it ended: then
        its job runs once more, or is gone.
        """
        return any(
            run.started <= one.ended and run.key not in one.kept
            for one in self.restores
        )

    def era(self, run: Run) -> int:
        """Return after how many restores a run began."""
        return sum(one.ended < run.started for one in self.restores)

    def runs_by_attempt(self) -> dict[tuple[str, int], list[Run]]:
        """Return the runs of each attempt, in the order of their starts."""
        found: dict[tuple[str, int], list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.key, []).append(run)
        return found

    def runs_by_job(self) -> dict[str, list[Run]]:
        """Return the runs of each job, in the order of their starts."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.job_id, []).append(run)
        return found


def _restores(lines: Iterable[dict[str, Any]]) -> list[Restore]:
    return [
        Restore(
            line["dumped"],
            line["at"],
            frozenset((job_id, attempt_no) for job_id, attempt_no in line["kept"]),
        )
        for line in lines
    ]


def _runs(lines: Iterable[dict[str, Any]]) -> list[Run]:
    started: dict[str, dict[str, Any]] = {}
    ended: dict[str, dict[str, Any]] = {}
    for line in lines:
        (started if line["event"] == "start" else ended)[line["run"]] = line
    runs = [
        Run(
            line["id"],
            line["attempt_no"],
            line["pid"],
            line["at"],
            ended.get(name, {}).get("at"),
            ended.get(name, {}).get("result"),
        )
        for name, line in started.items()
    ]
    return sorted(runs, key=lambda run: run.started)


def _lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)
