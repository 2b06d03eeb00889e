"""Columns, and how a cell of a table is written for a reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pgflow_cli.errors import UsageError
from pgflow_cli.formats import safe_text, times
from pgflow_cli.formats.values import sorted_by, text_of
from pgflow_cli.formats.words import short_id

_TIMES: dict[str, Callable[[datetime], str]] = {
    "iso": times.format_iso,
    "local": times.format_local,
    "unix": times.format_unix,
    "clock": lambda value: value.astimezone(UTC).strftime("%H:%M:%S"),
}
_AMOUNTS: dict[str, Callable[[float], str]] = {
    "ms": lambda value: times.format_duration(value / 1000),
    "seconds": times.format_duration,
    "share": "{:.1%}".format,
}

Kind = Literal["text", "word", "id", "number", "share", "time", "ms", "seconds", "json"]
Row = Any
"""A frozen dataclass, or a mapping."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the field of the row (also the JSON key), its heading, its kind.

    The first column of kind "id" is what `-o ids` prints. `ms` and `seconds` are
    lengths of time, a `share` is a part of 1, a `word` is a text that a narrow screen
    does not cut. A wide column is left out of table, plain and md. `sort_by` is the
    field to sort by, where what is shown is no number. A `spare` column is left out
    where the terminal is too narrow, the last one first.
    """

    field: str
    heading: str = ""
    kind: Kind = "text"
    wide: bool = False
    sort_by: str = ""
    spare: bool = False

    @property
    def title(self) -> str:
        """Return the heading; without one of its own, the field in capitals."""
        return self.heading or self.field.replace("_", " ").upper()

    def of(self, row: Row) -> Any:
        """Return this column's value of a row."""
        return _field(row, self.field)

    def rank(self, row: Row) -> Any:
        """Return the value by which a row is sorted."""
        return _field(row, self.sort_by or self.field)


def _field(row: Row, name: str) -> Any:
    return row.get(name) if isinstance(row, Mapping) else getattr(row, name)


def fitting(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int, gap: int
) -> int:
    """Return how many columns fit; `cells` are rows of what is shown."""
    sizes = [
        max(len(column.title), *(len(row[place]) for row in cells), 0)
        for place, column in enumerate(columns)
    ]
    shown = len(columns)
    while shown > 1 and sum(sizes[:shown]) + gap * (shown - 1) > width:
        if not columns[shown - 1].spare:
            break
        shown -= 1
    return shown


def named(columns: Sequence[Column], wanted: Iterable[str]) -> list[Column]:
    """Return columns by field or heading; an unknown one is a `UsageError`."""
    by_name = {
        _folded(name): column
        for column in columns
        for name in (column.field, column.title)
    }
    unknown = [name for name in wanted if _folded(name) not in by_name]
    if unknown:
        known = ", ".join(column.field for column in columns)
        raise UsageError(f"there is no column {unknown[0]}", f"Columns: {known}")
    return [by_name[_folded(name)] for name in wanted]


def _folded(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def sorted_rows(
    rows: Iterable[Row], columns: Sequence[Column], wanted: str | None
) -> Iterable[Row]:
    """Return the rows as --sort asks: what has no value comes last."""
    if not wanted:
        return rows
    name, _, direction = wanted.partition(":")
    if direction not in ("", "asc", "desc"):
        raise UsageError("--sort takes FIELD, FIELD:asc or FIELD:desc")
    [column] = named(columns, [name])
    return sorted_by(rows, column.rank, descending=direction == "desc")


@dataclass(frozen=True, slots=True)
class Style:
    """How the cells of a screen are written; a cell is one line without control
    characters.

    `short` is for a screen without much room. Of `times` None means relative ones if it
    is short, else iso.
    """

    short: bool
    now: datetime
    times: str | None = None
    ascii_only: bool = False

    def cell(self, column: Column, row: Row) -> str:
        """Return the text of a row in a column."""
        text = safe_text.neutral(self._text(column.kind, column.of(row)))
        return safe_text.ascii_only(text) if self.ascii_only else text

    def _text(self, kind: Kind, value: Any) -> str:
        if kind == "time" and isinstance(value, datetime):
            return self._time(value)
        if kind == "number" and self.short and type(value) is int:
            return f"{value:,}"
        if isinstance(value, int | float) and kind in _AMOUNTS:
            return _AMOUNTS[kind](value)
        # Of a time that is infinite or beyond the year 9999, what the database wrote.
        text = text_of(value)
        return short_id(text) if kind == "id" and self.short else text

    def _time(self, value: datetime) -> str:
        wanted = self.times or ("relative" if self.short else "iso")
        if wanted == "relative":
            return times.format_relative(value, self.now)
        return _TIMES[wanted](value)
