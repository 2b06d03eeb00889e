"""The screen of `pgflow top`: a census in, lines out; and what its keys do.

Nothing here knows how a terminal is written to: the caller hands in a screen.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pgflow_cli.cli.output import cells
from pgflow_cli.cli.views.queues import TOP
from pgflow_cli.errors import Contention, DatabaseUnavailable, DataDamaged, UsageError
from pgflow_cli.formats import times
from pgflow_cli.inspection import alerts
from pgflow_cli.inspection.queue_status import BARS, QueueStatus
from pgflow_cli.inspection.queues import SORTS, QueueReport

GAP, FAR = "  ", "   "
KEYS = "q quit  s sort  / filter"
_ASCII_BARS = str.maketrans(BARS, "_.-:=+*#")
_END, _ESCAPE, _ERASE = ("\r", "\n"), "\x1b", ("\x7f", "\b")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the screen; `style` is plain, strong, dim or alarm."""

    text: str
    style: str = "plain"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the cluster, and what its database is called."""

    census: QueueReport
    database: str


class Screen(Protocol):
    """A terminal that is shown whole, and whose keys can be read."""

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        ...

    @property
    def ascii_only(self) -> bool:
        """Whether it shows ASCII and nothing else."""
        ...

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines in place of all others."""
        ...

    def key(self, seconds: float) -> str | None:
        """Return a key that is pressed within so many seconds."""
        ...


class Dashboard:
    """Shows the report again and again until q is pressed."""

    def __init__(
        self, look: Callable[[], Look], *, interval: float, sort: str | None
    ) -> None:
        self._look, self._interval = look, interval
        self._sort = sort or SORTS[0]
        self._filter = ""
        self._typing = False
        self._latest: Look | None = None
        self._trouble = ""

    def run(self, screen: Screen) -> None:
        """Show it until the end."""
        while True:
            self._refresh()
            next_look = time.monotonic() + self._interval
            while (left := next_look - time.monotonic()) > 0:
                self._show(screen)
                pressed = screen.key(left)
                if pressed is not None and self._press(pressed):
                    return

    def _refresh(self) -> None:
        try:
            self._latest, self._trouble = self._look(), ""
        except (Contention, DatabaseUnavailable, DataDamaged) as error:
            self._trouble = error.message

    def _press(self, pressed: str) -> bool:
        """Do what a key says; return whether that ends it."""
        if self._typing:
            self._type(pressed)
        elif pressed in ("q", "Q"):
            return True
        elif pressed == "s":
            place = SORTS.index(self._sort) if self._sort in SORTS else -1
            self._sort = SORTS[(place + 1) % len(SORTS)]
        elif pressed == "/":
            self._typing, self._filter = True, ""
        return False

    def _type(self, pressed: str) -> None:
        if pressed in _END:
            self._typing = False
        elif pressed == _ESCAPE:
            self._typing, self._filter = False, ""
        elif pressed in _ERASE:
            self._filter = self._filter[:-1]
        elif pressed.isprintable():
            self._filter += pressed

    def _show(self, screen: Screen) -> None:
        width, height = screen.size
        shown: list[Line] = []
        if self._latest is not None:
            shown = lines(
                self._latest,
                sort=self._sort,
                pattern=self._filter,
                width=width,
                ascii_only=screen.ascii_only,
            )
        if self._trouble:
            shown.append(Line(f"{self._trouble}; trying again", "alarm"))
        state = f"sort {self._sort}{FAR}filter {self._filter or '-'}{FAR}{KEYS}"
        if self._typing:
            state = f"filter: {self._filter}_   (Enter keeps it, Esc forgets it)"
        shown = shown[: max(0, height - 2)]
        screen.show([*shown, Line(""), Line(state[:width], "dim")][:height])


def lines(
    look: Look,
    *,
    sort: str | None,
    pattern: str = "",
    width: int | None = None,
    ascii_only: bool = False,
) -> list[Line]:
    """Return the screen as lines no wider than `width`; None: nothing is left out."""
    taken = look.census
    chosen = [s for s in taken.queues if matches(s.queue, pattern)]
    rows = list(cells.sorted_rows(chosen, TOP, sort))
    headings, *table = _table(rows, taken.now, width)
    if ascii_only:
        table = [text.translate(_ASCII_BARS) for text in table]
    found = FAR.join(alerts.found(taken))
    return [
        Line(_fitted(_first(look), width), "strong"),
        Line(_fitted(_second(taken), width)),
        Line(headings, "strong"),
        *(_row(text, row) for text, row in zip(table, rows, strict=True)),
        *([] if rows else [Line("no queue, or none that fits the filter", "dim")]),
        *(Line(text, "alarm") for text in _wrapped(f"ALERTS  {found}", width) if found),
    ]


def matches(queue: str, pattern: str) -> bool:
    """Return whether a queue fits what was typed: a part of its name, or a glob."""
    if any(sign in pattern for sign in "*?["):
        return fnmatch.fnmatchcase(queue, pattern)
    return pattern in queue


def check_sort(wanted: str | None) -> None:
    """Refuse a column that does not exist, before anything is shown."""
    if wanted:
        name, _, direction = wanted.partition(":")
        cells.named(TOP, [name])
        if direction not in ("", "asc", "desc"):
            raise UsageError("--sort takes FIELD, FIELD:asc or FIELD:desc")


def _first(look: Look) -> list[str]:
    cluster = look.census.measures.cluster
    version = cluster.server_version.split()[0]
    skew = times.format_duration(look.census.skew)
    return [
        f"pgflow top{FAR}{look.database}",
        f"PG {version}",
        f"schema {cluster.schema_version}",
        f" {cluster.now:%H:%M:%S} UTC",
        f" skew {skew if skew.startswith('-') else '+' + skew}",
    ]


def _second(taken: QueueReport) -> list[str]:
    cluster = taken.measures.cluster
    workers = taken.measures.workers
    alive = [worker for worker in workers if worker.alive and not worker.spare]
    slots, busy = sum(w.slots for w in alive), sum(w.busy_slots for w in alive)
    age = cluster.oldest_xmin_age_seconds
    return [
        f"workers {len(alive)} alive ({slots} slots, {busy} busy) ",
        f"conns {cluster.connections}/{cluster.max_connections} ",
        f"xmin age {times.format_duration(age or 0.0)} ",
        f"maintain {_ago(cluster.maintained_at, cluster.now)} ",
        f"backup {_ago(cluster.backed_up_at, cluster.now)}",
    ]


def _ago(moment: datetime | None, now: datetime) -> str:
    return "never" if moment is None else times.format_relative(moment, now)


def _row(text: str, status: QueueStatus) -> Line:
    troubled = status.unserved or (status.measure.paused and status.runnable)
    return Line(text, "alarm" if troubled else "plain")


def _table(
    rows: Sequence[QueueStatus], now: datetime, width: int | None
) -> Iterator[str]:
    """Yield the headings and the rows; columns that do not fit go, the last first."""
    style = cells.Style(short=True, now=now)
    texts = [[style.cell(column, row) for column in TOP] for row in rows]
    shown = len(TOP) if width is None else cells.fitting(TOP, texts, width, len(GAP))
    texts.insert(0, [column.title for column in TOP])
    sizes = [max(len(line[place]) for line in texts) for place in range(shown)]
    for line in texts:
        parts = (
            cell.rjust(size) if column.kind == "number" else cell.ljust(size)
            for column, size, cell in zip(TOP, sizes, line, strict=False)
        )
        yield GAP.join(parts).rstrip()[:width]


def _fitted(parts: Sequence[str], width: int | None) -> str:
    """Return the parts that fit, of a line; the last ones go first."""
    shown = list(parts)
    while width is not None and len(shown) > 1 and len(GAP.join(shown)) > width:
        shown.pop()
    return GAP.join(shown).rstrip()[:width]


def _wrapped(text: str, width: int | None) -> Iterator[str]:
    """Yield a line of alerts, broken between two of them."""
    line = ""
    for part in text.split(FAR):
        longer = f"{line}{FAR}{part}" if line else part
        if width is not None and line and len(longer) > width:
            yield line
            longer = f"        {part}"
        line = longer[:width]
    yield line
