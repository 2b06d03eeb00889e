"""Rows → table, plain, wide, json, jsonl, csv, tsv, ids, md on stdout.

Everything that may come from data is neutralised on its way: no text commands a
terminal or a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from pgflow_cli.cli.output import terminal
from pgflow_cli.cli.output.cells import (
    Column,
    Row,
    Style,
    fitting,
    named,
    sorted_rows,
)
from pgflow_cli.errors import UsageError
from pgflow_cli.formats import safe_text
from pgflow_cli.formats.values import json_of, separated, text_of

if TYPE_CHECKING:
    from rich.table import Table


FORMATS = ("table", "plain", "wide", "json", "jsonl", "csv", "tsv", "ids", "md")
TIMES = ("relative", "iso", "local", "unix")
_GAP = 2  # spaces between two columns
_RIGHT = {"number", "share"}
_MACHINE = {"json", "jsonl", "csv", "tsv", "ids"}


def chosen_format() -> str:
    """Return the format that was asked for, else what suits the reader of stdout."""
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

    `cursor` is (created_at, id) of the last row if there are more. `now` is the
    database's time, where the caller knows it: relative times are reckoned from it.
    """
    form = chosen_format()
    picked = picked_columns(columns, form)
    rows = in_order(rows, columns)
    moment = now or datetime.now(UTC)
    if form == "json":
        _write_document(rows, picked, cursor)
    elif form == "jsonl":
        for row in rows:
            sys.stdout.write(json_of(object_of(row, picked)) + "\n")
    elif form == "ids":
        identity = _identity(columns)
        for row in rows:
            sys.stdout.write(safe_text.neutral(text_of(identity.of(row))) + "\n")
    elif form in ("csv", "tsv"):
        _write_separated(rows, picked, "," if form == "csv" else "\t")
    elif form in ("table", "wide"):
        _write_table(rows, picked, moment)
    else:
        terminal.show(tabulated(rows, picked, form, moment))
    sys.stdout.flush()


def write_record(
    row: Row, columns: Sequence[Column], *, now: datetime | None = None
) -> None:
    """Write one object: a line for each field, or in json the object itself."""
    form = chosen_format()
    if form == "json":
        sys.stdout.write(
            json_of(object_of(row, picked_columns(columns, form)), indent=2) + "\n"
        )
        sys.stdout.flush()
    elif form in _MACHINE or form == "md":
        write([row], columns, now=now)
    else:
        picked, moment = picked_columns(columns, "wide"), now or datetime.now(UTC)
        width = max(len(column.title) for column in picked)
        style = _style(moment, short=form != "plain")
        write_text(
            f"{column.title:<{width}}  {style.cell(column, row)}" for column in picked
        )


def write_line(row: Row, columns: Sequence[Column]) -> None:
    """Write one object on a line of its own, as jsonl does, whatever was asked for."""
    sys.stdout.write(json_of(object_of(row, picked_columns(columns, "jsonl"))) + "\n")
    sys.stdout.flush()


def width() -> int | None:
    """Return how wide the terminal is that shows stdout; None: it goes elsewhere."""
    tty = terminal.is_terminal(sys.stdout)
    return shutil.get_terminal_size().columns if tty else None


def write_document(document: Mapping[str, Any]) -> None:
    """Write one JSON object that is no list of rows."""
    sys.stdout.write(json_of(document, indent=2) + "\n")
    sys.stdout.flush()


def write_text(lines: Iterable[str], *, marks: Mapping[str, str] | None = None) -> None:
    """Write a screen of lines, paged if it overflows.

    `marks` gives a colour to words that a line may begin with.
    """
    readable = terminal.for_reader(sys.stdout)
    coloured = terminal.colored(sys.stdout, terminal.display().color)
    terminal.show(
        "".join(
            f"{_marked(text, marks) if marks and coloured else text}\n"
            for text in (readable(safe_text.neutral(line)).rstrip() for line in lines)
        )
    )


def _marked(line: str, marks: Mapping[str, str]) -> str:
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    if word not in marks:
        return line
    return line.replace(word, click.style(word, fg=marks[word], bold=True), 1)


def in_order(rows: Iterable[Row], columns: Sequence[Column]) -> Iterable[Row]:
    """Return the rows as --sort asks."""
    return sorted_rows(rows, columns, terminal.display().sort)


def picked_columns(columns: Sequence[Column], form: str) -> list[Column]:
    """Return the columns that --columns asks for, else those that the format shows."""
    wanted = terminal.display().columns
    if not wanted:
        whole = form == "wide" or form in _MACHINE
        return [column for column in columns if whole or not column.wide]
    return named(columns, wanted)


def _identity(columns: Sequence[Column]) -> Column:
    for column in columns:
        if column.kind == "id":
            return column
    raise UsageError("there are no ids here; choose another --output")


def object_of(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    """Return a row as an object of JSON."""
    return {column.field: column.of(row) for column in columns}


def _write_document(
    rows: Iterable[Row], columns: Sequence[Column], cursor: tuple[Any, Any] | None
) -> None:
    """Write one document, item by item, so that a long one needs no memory."""
    sys.stdout.write('{"items": [')
    between = "\n  "
    for row in rows:
        sys.stdout.write(between + json_of(object_of(row, columns)))
        between = ",\n  "
    created_at, identity = cursor or (None, None)
    cursors = {"next_cursor_created_at": created_at, "next_cursor_id": identity}
    end = json_of(cursors).removeprefix("{")
    sys.stdout.write(("\n" if between[0] == "," else "") + f"], {end}\n")


def _write_separated(
    rows: Iterable[Row], columns: Sequence[Column], separator: str
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    if terminal.display().headers:
        writer.writerow([column.field for column in columns])
    for row in rows:
        writer.writerow([separated(column.of(row)) for column in columns])
        sys.stdout.write(buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()
    sys.stdout.write(buffer.getvalue())


def _write_table(rows: Iterable[Row], columns: Sequence[Column], now: datetime) -> None:
    screen = terminal.console(sys.stdout)
    with screen.capture() as capture:
        screen.print(rich_table(rows, columns, now, ""))
    terminal.show(capture.get())


def rich_table(
    rows: Iterable[Row], columns: Sequence[Column], now: datetime, title: str
) -> Table:
    """Return the table of a terminal: columns that do not fit are left out."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headers = terminal.display().headers
    table = Table(
        title=safe_text.neutral(title) or None,
        title_justify="left",
        box=None if title == "" else box.SIMPLE_HEAD,
        show_header=headers,
        pad_edge=False,
        padding=(0, _GAP, 0, 0),
    )
    style = _style(now, short=True)
    shown = [[style.cell(column, row) for column in columns] for row in rows]
    if terminal.is_terminal(sys.stdout) and not terminal.display().columns:
        columns = columns[: fitting(columns, shown, terminal.width(), _GAP)]
    for column in columns:
        # Text gives way when the screen is narrow; everything else stays whole.
        table.add_column(
            column.title,
            justify="right" if column.kind == "number" else "left",
            no_wrap=column.kind != "text",
        )
    for cells in shown:
        table.add_row(
            *(
                # Without wrapping, but only here: rich does not narrow a column that
                # may not wrap.
                Text(
                    cell,
                    no_wrap=True,
                    overflow="crop" if style.ascii_only else "ellipsis",
                )
                for cell in cells[: len(columns)]
            )
        )
    return table


def tabulated(
    rows: Iterable[Row], columns: Sequence[Column], form: str, now: datetime
) -> str:
    """Return the text of a `plain` or `md` table, whole however wide it is."""
    import tabulate

    style = _style(now, short=False)
    cells = [[style.cell(column, row) for column in columns] for row in rows]
    if form == "md":
        cells = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    headings = (
        [column.title for column in columns] if terminal.display().headers else ()
    )
    text = tabulate.tabulate(
        cells,
        headers=headings,
        tablefmt="github" if form == "md" else "plain",
        # Nothing is taken for a number: an id such as 12e34567 would turn into
        # infinity.
        disable_numparse=True,
        colalign=tuple(
            "right" if column.kind in _RIGHT else "left" for column in columns
        )
        if cells or headings
        else None,
    )
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _style(now: datetime, *, short: bool) -> Style:
    ascii_only = terminal.knows_ascii_only(sys.stdout)
    return Style(short, now, terminal.display().times, ascii_only)
