"""Values as text for a person, a CSV file or JSON."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from pgflow_cli.formats import safe_text, times

T = TypeVar("T")


def sorted_by(
    rows: Iterable[T], rank: Callable[[T], Any], *, descending: bool
) -> list[T]:
    """Return the rows in the order of their ranks; those without one come last."""
    every = list(rows)
    known = [row for row in every if rank(row) is not None]
    known.sort(key=lambda row: _sortable(rank(row)), reverse=descending)
    return known + [row for row in every if rank(row) is None]


def _sortable(value: Any) -> Any:
    return value if isinstance(value, int | float | datetime) else text_of(value)


def text_of(value: Any) -> str:
    """Return a value as text for programs."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return times.format_iso(value)
    if isinstance(value, timedelta):
        return str(value.total_seconds())
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return json_of(value)
    if isinstance(value, str | int | float | Decimal | UUID | date):
        return str(value)
    raise TypeError(f"no way to write a {type(value).__name__}")


def separated(value: Any) -> str:
    # A number is no formula, even with its sign.
    if isinstance(value, int | float | Decimal):
        return text_of(value)
    return safe_text.csv_cell(text_of(value))


def json_of(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON; NaN and infinity are null."""
    write = functools.partial(
        json.dumps, default=_jsonable, allow_nan=False, indent=indent
    )
    try:
        return write(value)
    except ValueError:
        return write(_jsonable(value))


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(part) for part in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    return text_of(value)
