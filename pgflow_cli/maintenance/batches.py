"""The time and batches that a task has in a pass of `maintain`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pgflow_cli.errors import DataDamaged


@dataclass
class BatchRun:
    """The limits of a task in one pass, and its result.

    A task works in batches and asks between two of them. `keeps_lock` raises if another
    session may have the maintenance lock by now. `until` is in monotonic time.
    """

    batch_size: int
    sleep: float
    until: float
    stopped: threading.Event
    keeps_lock: Callable[[], None]
    dry_run: bool = False
    rows: int = 0
    batches: int | None = None
    notes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)
    over: bool = False

    def may_go_on(self) -> bool:
        """Return whether there is time for another batch; if not, note why."""
        if self.over:
            return False
        if self.stopped.is_set():
            self._leave("ended by a signal")
        elif time.monotonic() >= self.until:
            self._leave("--max-runtime is over")
        else:
            self.keeps_lock()
        return not self.over

    def repeat(self, batch: Callable[[], tuple[int, bool]]) -> int:
        """Run batches while there are more and time allows; return the sum of rows.

        A batch returns its rows and whether there may be more.
        """
        total, more = 0, True
        while more and self.may_go_on():
            rows, more = batch()
            total += rows
            self.count(rows)
            if more:
                self.stopped.wait(self.sleep)
        return total

    def repeat_while_full(self, batch: Callable[[], int]) -> int:
        """Run batches until one is not full; in a dry run only one."""

        def once() -> tuple[int, bool]:
            rows = batch()
            return rows, rows >= self.batch_size and not self.dry_run

        return self.repeat(once)

    def count(self, rows: int, *, batches: int = 1) -> None:
        """Add to the result of the task."""
        self.rows += rows
        if rows:
            self.batches = (self.batches or 0) + batches

    def put_off(self, why: str) -> None:
        """Note that something is left for the next pass."""
        self.left.append(why)

    @contextmanager
    def passing_over_damage(self) -> Iterator[None]:
        """Note a page that cannot be read, and go on behind the block: what lies
        elsewhere is not to grow for ever because of one day.
        """
        try:
            yield
        except DataDamaged as error:
            if str(error) not in self.damages:
                self.damages.append(str(error))

    @property
    def result(self) -> str:
        """Return `ok`, `partial` if work was left for the next pass, or `failed` if
        data cannot be read.
        """
        if self.damages:
            return "failed"
        return "partial" if self.left else "ok"

    @property
    def detail(self) -> str:
        """Return the notes as one line."""
        return ", ".join([*self.notes, *self.left, *self.damages])

    def _leave(self, why: str) -> None:
        self.over = True
        self.left.append(why)
