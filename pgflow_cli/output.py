"""Rows → table, plain, wide, json, jsonl, csv, tsv, ids, md on stdout; words → stderr.

Everything that may come from data is neutralised on its way: no text commands a terminal or a spreadsheet.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import click

from pgflow_cli import escaping, terminal, times
from pgflow_cli.errors import PgflowError, Refused, UsageError
from pgflow_cli.terminal import progress

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "FORMATS",
    "TIMES",
    "Column",
    "confirm",
    "confirm_name",
    "hint",
    "is_machine",
    "live",
    "progress",
    "say",
    "warn",
    "write",
    "write_record",
    "write_text",
]

FORMATS = ("table", "plain", "wide", "json", "jsonl", "csv", "tsv", "ids", "md")
TIMES = ("relative", "iso", "local", "unix")
_MACHINE = {"json", "jsonl", "csv", "tsv", "ids"}
_SHORT_ID = 8

Kind = Literal["text", "id", "number", "time", "ms", "seconds", "json"]
Row = Any
"""A frozen dataclass, or a mapping."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the field of the row (also the JSON key), its heading, and how its values are read.

    The first column of kind "id" is what `-o ids` prints. `ms` and `seconds` are lengths of time. A wide column is left
    out of table, plain and md.
    """

    field: str
    heading: str = ""
    kind: Kind = "text"
    wide: bool = False

    @property
    def title(self) -> str:
        """Return the heading; without one of its own, the field in capitals."""
        return self.heading or self.field.replace("_", " ").upper()

    def of(self, row: Row) -> Any:
        """Return this column's value of a row."""
        return row.get(self.field) if isinstance(row, Mapping) else getattr(row, self.field)


def chosen_format() -> str:
    """Return the format that was asked for, else the one that suits the reader of stdout."""
    fitting = "table" if terminal.is_terminal(sys.stdout) else "plain"
    return terminal.display().format or fitting


def is_machine() -> bool:
    """Return whether a program will read stdout."""
    return chosen_format() in _MACHINE


def write(
    rows: Iterable[Row],
    columns: Sequence[Column],
    *,
    cursor: tuple[Any, Any] | None = None,
    now: datetime | None = None,
) -> None:
    """Write rows as asked for; jsonl, csv, tsv and ids are streamed.

    `cursor` is (created_at, id) of the last row if there are more. `now` is the database's time, where the caller knows
    it: relative times are reckoned from it.
    """
    form = chosen_format()
    picked = _picked(columns, form)
    moment = now or datetime.now(UTC)
    if form == "json":
        _write_document(rows, picked, cursor)
    elif form == "jsonl":
        for row in rows:
            sys.stdout.write(_json(_object(row, picked)) + "\n")
    elif form == "ids":
        identity = _identity(columns)
        for row in rows:
            sys.stdout.write(escaping.neutral(_text(identity.of(row))) + "\n")
    elif form in ("csv", "tsv"):
        _write_separated(rows, picked, "," if form == "csv" else "\t")
    elif form in ("table", "wide"):
        _write_table(rows, picked, moment)
    else:
        terminal.show(_tabulated(rows, picked, form, moment))
    sys.stdout.flush()


def write_record(row: Row, columns: Sequence[Column], *, now: datetime | None = None) -> None:
    """Write one object: a line for each field, or in machine formats the object itself."""
    form = chosen_format()
    if form == "json":
        sys.stdout.write(_json(_object(row, _picked(columns, form)), indent=2) + "\n")
        sys.stdout.flush()
    elif form in _MACHINE or form == "md":
        write([row], columns, now=now)
    else:
        picked, moment = _picked(columns, "wide"), now or datetime.now(UTC)
        width = max(len(column.title) for column in picked)
        short = form != "plain"
        write_text(
            f"{column.title:<{width}}  {_cell(column, row, moment, short=short)}" for column in picked
        )


def write_text(lines: Iterable[str]) -> None:
    """Write a screen of lines, paged if it overflows."""
    readable = _for_reader(sys.stdout)
    terminal.show("".join(f"{readable(escaping.neutral(line)).rstrip()}\n" for line in lines))


@contextmanager
def live(columns: Sequence[Column], *, title: str = "") -> Iterator[Callable[[Iterable[Row]], None]]:
    """Hand out a function that shows rows, in place of the ones before; elsewhere than on a terminal the last at the end."""
    shown = list(columns)
    if not terminal.is_terminal(sys.stdout):
        last: list[Row] = []

        def keep(rows: Iterable[Row]) -> None:
            last[:] = rows

        yield keep
        terminal.show(_tabulated(last, shown, "plain", datetime.now(UTC)))
        return
    from rich.live import Live  # noqa: PLC0415 - start-up stays quick

    with Live(console=terminal.console(sys.stdout), auto_refresh=False) as screen:
        yield lambda rows: screen.update(
            _rich_table(rows, shown, datetime.now(UTC), title), refresh=True
        )


def say(text: str) -> None:
    """Tell what was done, on stderr; --quiet leaves it out."""
    if not terminal.display().quiet:
        _tell(text)


def hint(text: str) -> None:
    """Tell what to do next, on stderr; --quiet leaves it out."""
    if not terminal.display().quiet:
        _tell(text, dim=True)


def warn(text: str) -> None:
    """Tell what is wrong but stops nothing, on stderr."""
    _tell(text, label="Warning", fg="yellow")


def complain(text: str, *hints: str) -> None:
    """Tell why the program ends, on stderr."""
    _tell(text, label="Error", fg="red")
    for line in hints:
        _tell(f"  {line}")


def confirm(question: str, *, yes: bool) -> None:
    """Ask `question?` unless `yes`; where nobody can be asked this is refused, and "no" is exit 1."""
    if yes:
        return
    if not terminal.can_ask():
        raise Refused(
            "this needs a confirmation, and there is nobody to ask; nothing was changed",
            "Try: --yes",
            reason_code="CONFIRMATION_REQUIRED",
        )
    answer = terminal.ask(escaping.neutral(f"{question}?") + " [y/N] ")
    if answer.lower() not in ("y", "yes"):
        raise PgflowError("not confirmed; nothing was changed")


def confirm_name(question: str, name: str, *, given: str | None) -> None:
    """Ask to type `name` before something severe, unless it was given with --confirm."""
    if given == name:
        return
    if given is not None:
        raise Refused(
            f"--confirm does not name {name}; nothing was changed",
            reason_code="CONFIRMATION_REQUIRED",
        )
    if not terminal.can_ask():
        raise Refused(
            "this needs a confirmation, and there is nobody to ask; nothing was changed",
            f"Try: --confirm {name}",
            reason_code="CONFIRMATION_REQUIRED",
        )
    answer = terminal.ask(escaping.neutral(f"{question}. Type {name} to go on:") + " ")
    if answer != name:
        raise PgflowError("not confirmed; nothing was changed")


def _tell(text: str, *, label: str = "", fg: str | None = None, dim: bool = False) -> None:
    readable = _for_reader(sys.stderr)
    line = readable(escaping.neutral_lines(text))
    if terminal.colored(sys.stderr, terminal.display().color):
        line = click.style(line, dim=True) if dim else line
        label = click.style(label, fg=fg, bold=True) if label else label
    sys.stderr.write(f"{label}: {line}\n" if label else f"{line}\n")
    sys.stderr.flush()


def _for_reader(stream: Any) -> Callable[[str], str]:
    return escaping.ascii_only if terminal.knows_ascii_only(stream) else str


def _picked(columns: Sequence[Column], form: str) -> list[Column]:
    wanted = terminal.display().columns
    if not wanted:
        whole = form == "wide" or form in _MACHINE
        return [column for column in columns if whole or not column.wide]
    by_name = {_folded(name): column for column in columns for name in (column.field, column.title)}
    unknown = [name for name in wanted if _folded(name) not in by_name]
    if unknown:
        known = ", ".join(column.field for column in columns)
        raise UsageError(f"there is no column {unknown[0]}", f"Columns: {known}")
    return [by_name[_folded(name)] for name in wanted]


def _folded(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _identity(columns: Sequence[Column]) -> Column:
    for column in columns:
        if column.kind == "id":
            return column
    raise UsageError("there are no ids here; choose another --output")


def _object(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    return {column.field: column.of(row) for column in columns}


def _write_document(
    rows: Iterable[Row], columns: Sequence[Column], cursor: tuple[Any, Any] | None
) -> None:
    """Write one document, item by item, so that a long one needs no memory."""
    sys.stdout.write('{"items": [')
    between = "\n  "
    for row in rows:
        sys.stdout.write(between + _json(_object(row, columns)))
        between = ",\n  "
    created_at, identity = cursor or (None, None)
    end = f'"next_cursor_created_at": {_json(created_at)}, "next_cursor_id": {_json(identity)}'
    sys.stdout.write(("\n" if between[0] == "," else "") + f"], {end}}}\n")


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_jsonable(value), ensure_ascii=True, allow_nan=False, indent=indent)


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
        return {f.name: _jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return _text(value)


def _write_separated(rows: Iterable[Row], columns: Sequence[Column], separator: str) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    if terminal.display().headers:
        writer.writerow([column.field for column in columns])
    for row in rows:
        writer.writerow([_separated_cell(column.of(row)) for column in columns])
        sys.stdout.write(buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()
    sys.stdout.write(buffer.getvalue())


def _separated_cell(value: Any) -> str:
    # A number is no formula, even with its sign.
    if isinstance(value, int | float | Decimal):
        return _text(value)
    return escaping.csv_cell(_text(value))


def _write_table(rows: Iterable[Row], columns: Sequence[Column], now: datetime) -> None:
    screen = terminal.console(sys.stdout)
    with screen.capture() as capture:
        screen.print(_rich_table(rows, columns, now, ""))
    terminal.show(capture.get())


def _rich_table(
    rows: Iterable[Row], columns: Sequence[Column], now: datetime, title: str
) -> Table:
    from rich import box  # noqa: PLC0415 - start-up stays quick
    from rich.table import Table  # noqa: PLC0415 - start-up stays quick
    from rich.text import Text  # noqa: PLC0415 - start-up stays quick

    headers = terminal.display().headers
    table = Table(
        title=title or None,
        title_justify="left",
        box=None if title == "" else box.SIMPLE_HEAD,
        show_header=headers,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    readable = _for_reader(sys.stdout)
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.kind == "number" else "left",
            no_wrap=True,
            # Ids and times stay whole; text gives way, from its end.
            min_width=_SHORT_ID if column.kind == "id" else None,
            overflow="crop" if readable is escaping.ascii_only else "ellipsis",
        )
    for row in rows:
        table.add_row(
            *(Text(readable(_cell(column, row, now, short=True))) for column in columns)
        )
    return table


def _tabulated(
    rows: Iterable[Row], columns: Sequence[Column], form: str, now: datetime
) -> str:
    import tabulate  # noqa: PLC0415 - start-up stays quick

    readable = _for_reader(sys.stdout)
    cells = [
        [readable(_cell(column, row, now, short=False)) for column in columns] for row in rows
    ]
    if form == "md":
        cells = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    headings = [column.title for column in columns] if terminal.display().headers else ()
    text = tabulate.tabulate(
        cells,
        headers=headings,
        tablefmt="github" if form == "md" else "plain",
        # Nothing is taken for a number: an id such as 12e34567 would turn into infinity.
        disable_numparse=True,
        colalign=tuple("right" if column.kind == "number" else "left" for column in columns)
        if cells or headings
        else None,
    )
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _cell(column: Column, row: Row, now: datetime, *, short: bool) -> str:
    """Return what a person reads in a cell: one line without control characters."""
    value = column.of(row)
    if value is None:
        return ""
    if column.kind == "id" and short:
        return escaping.neutral(_text(value)[-_SHORT_ID:])
    if column.kind == "time":
        return escaping.neutral(_time(value, now, short=short))
    if column.kind in ("ms", "seconds") and isinstance(value, int | float):
        return times.format_duration(value / 1000 if column.kind == "ms" else value)
    if column.kind == "number" and short and type(value) is int:
        return f"{value:,}"
    return escaping.neutral(_text(value))


def _time(value: Any, now: datetime, *, short: bool) -> str:
    if not isinstance(value, datetime):
        # Infinite or beyond the year 9999: the database's own words.
        return _text(value)
    wanted = terminal.display().times or ("relative" if short else "iso")
    if wanted == "relative":
        return times.format_relative(value, now)
    formats = {"iso": times.format_iso, "local": times.format_local, "unix": times.format_unix}
    return formats[wanted](value)


def _text(value: Any) -> str:
    """Return a value as a program wants to read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return times.format_iso(value)
    if isinstance(value, timedelta):
        return str(value.total_seconds())
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _json(value)
    if isinstance(value, str | int | float | Decimal | UUID | date):
        return str(value)
    raise TypeError(f"no way to write a {type(value).__name__}")
