"""Turns a row's values into text: for persons, for programs, for spreadsheets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pgflow_cli.errors import UsageError
from pgflow_cli.formats import safe_text, times
from pgflow_cli.formats.values import sorted_by, text_of
from pgflow_cli.formats.words import short_id

_TIMES = {
    "iso": times.format_iso,
    "local": times.format_local,
    "unix": times.format_unix,
}

Kind = Literal["text", "word", "id", "number", "share", "time", "ms", "seconds", "json"]
Row = Any
"""A frozen dataclass, or a mapping."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the field of the row (also the JSON key), its heading, its kind.

    The first column of kind "id" is what `-o ids` prints. `ms` and `seconds` are
    lengths of time, a `share` is a part of 1, a `word` is a text that a narrow screen
    does not cut. A wide column is left out of table, plain and md. `order` is the field
    to sort by, where what is shown are words. A `spare` column is left out where the
    terminal is too narrow, the last one first.
    """

    field: str
    heading: str = ""
    kind: Kind = "text"
    wide: bool = False
    order: str = ""
    spare: bool = False

    @property
    def title(self) -> str:
        """Return the heading; without one of its own, the field in capitals."""
        return self.heading or self.field.replace("_", " ").upper()

    def of(self, row: Row) -> Any:
        """Return this column's value of a row."""
        return _field(row, self.field)

    def rank(self, row: Row) -> Any:
        """Return what a row is sorted by."""
        return _field(row, self.order or self.field)


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


def readable(
    column: Column, row: Row, now: datetime, *, short: bool, wanted: str | None
) -> str:
    """Return what a person reads in a cell: one line without control characters."""
    value = column.of(row)
    if value is None:
        return ""
    if column.kind == "id" and short:
        return safe_text.neutral(short_id(text_of(value)))
    if column.kind == "time":
        return safe_text.neutral(
            _time(value, now, wanted or ("relative" if short else "iso"))
        )
    if column.kind in ("ms", "seconds") and isinstance(value, int | float):
        return times.format_duration(value / 1000 if column.kind == "ms" else value)
    return _number(column.kind, value, short) or safe_text.neutral(text_of(value))


def _number(kind: Kind, value: Any, short: bool) -> str:
    if kind == "share" and isinstance(value, int | float):
        return f"{value:.1%}"
    return f"{value:,}" if kind == "number" and short and type(value) is int else ""


def _time(value: Any, now: datetime, wanted: str) -> str:
    if not isinstance(value, datetime):
        # Infinite or beyond the year 9999: the database's own words.
        return text_of(value)
    if wanted == "relative":
        return times.format_relative(value, now)
    return _TIMES[wanted](value)
